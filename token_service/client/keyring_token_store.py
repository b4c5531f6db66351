"""A token store in the credential store of the system: macOS Keychain, Secret Service, Windows Credential Locker.

This module needs `keyring`: the extra `[keyring]`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from token_service.client._internal.file_lock import FileLock
from token_service.client._internal.token_store import Tokens
from token_service.client._internal.token_text import decode_tokens, encode_tokens

try:
    import keyring
    from keyring.backend import KeyringBackend
    from keyring.errors import KeyringError
except ModuleNotFoundError as _missing:
    if _missing.name != "keyring":
        raise
    raise ModuleNotFoundError(
        "KeyringTokenStore needs keyring; install it: pip install 'grpc-token-service[keyring]'",
        name="keyring",
    ) from None


class KeyringTokenStore:
    """Store in the credential store of the user, which encrypts the tokens and decides which programs read them."""

    def __init__(
        self,
        service_name: str,
        user_name: str,
        *,
        lock_path: Path | None = None,
        backend: KeyringBackend | None = None,
    ) -> None:
        """Configure the store; nothing is read.

        `service_name` and `user_name` name the entry. Credential stores have no locks: processes that share an entry
        need a `lock_path`, a file that they lock in turn. `backend` replaces the backend that keyring chooses.
        """
        self._entry = service_name, user_name
        self._backend = backend
        self._lock = FileLock(lock_path) if lock_path is not None else None

    def load(self) -> Tokens | None:
        """Return the stored tokens, or None.

        Raises `OSError` if the credential store is locked or missing, and `ValueError` if the entry has no tokens.
        """
        try:
            text = self._keyring().get_password(*self._entry)
        except KeyringError as error:
            raise _failure("read", error) from error
        if text is None:
            return None
        try:
            return decode_tokens(text)
        except ValueError:
            raise ValueError(
                f"the entry {'/'.join(self._entry)} of the credential store has no tokens: delete it and log in again"
            ) from None

    def save(self, tokens: Tokens) -> None:
        """Replace the stored tokens. Raises `OSError` on failure."""
        try:
            self._keyring().set_password(*self._entry, encode_tokens(tokens).decode())
        except KeyringError as error:
            raise _failure("written", error) from error

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        """Exclude other processes until the end of the context, if there is a `lock_path`.

        Raises `TimeoutError` after `timeout` seconds.
        """
        return self._lock.hold(timeout) if self._lock is not None else nullcontext()

    def _keyring(self) -> KeyringBackend:
        return self._backend if self._backend is not None else keyring.get_keyring()


def _failure(action: str, error: KeyringError) -> OSError:
    return OSError(f"the credential store can't be {action} ({type(error).__name__}): {error}")

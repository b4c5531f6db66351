"""ListSigningKeys, PrepareSigningKey, ActivateSigningKey, RetireSigningKey, PreviewKeyRetirement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager, Retirement
from token_service.core.keys.store import StoredSigningKey
from token_service.core.limits import DEFAULT_PAGE, MAX_KEY_ID, Checks
from token_service.core.page_tokens import format_page_token, parse_page_token, text_id
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, RSA_SIZES, Algorithm

_ALGORITHMS: Final = tuple(each.value for each in PUBLIC_KEY_ALGORITHMS)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Signing keys, newest first. `next_page_token` is empty on the last page."""

    keys: Sequence[StoredSigningKey]
    next_page_token: str


class SigningKeys:
    """Lists signing keys and changes their state. Each method raises `PermissionDeniedError`."""

    def __init__(self, keyring: Keyring, key_manager: KeyManager) -> None:
        self._keyring = keyring
        self._key_manager = key_manager

    def list(self, caller: Caller, page_size: int, page_token: str) -> KeyPage:
        """List a page of the keys; a size of 0 is the default. Raises `InvalidRequestError`."""
        admit(caller, UseCase.LIST_SIGNING_KEYS)
        checks = Checks()
        after = checks.page(page_size, page_token, _parse_position)
        checks.done()
        size = page_size or DEFAULT_PAGE
        keys = [key for key in self._keyring.signing_keys() if after is None or _position(key) < after]
        page = keys[:size]
        if len(keys) <= size:
            return KeyPage(page, "")
        return KeyPage(page, format_page_token(page[-1].create_time, page[-1].key_id.encode()))

    async def prepare(self, caller: Caller, algorithm: str, rsa_bits: int) -> StoredSigningKey:
        """Make a key and publish it. An empty algorithm and 0 bits stand for the configured ones.

        Raises `InvalidRequestError` and the errors of `KeyManager.prepare`.
        """
        admit(caller, UseCase.PREPARE_SIGNING_KEY)
        checks = Checks()
        if algorithm not in ("", *_ALGORITHMS):
            checks.add("algorithm", f"is none of {', '.join(_ALGORITHMS)}")
        if rsa_bits not in (0, *RSA_SIZES):
            checks.add("rsa_bits", f"is none of {', '.join(map(str, RSA_SIZES))}")
        checks.done()
        return await self._key_manager.prepare(
            caller.actor(), Algorithm(algorithm) if algorithm else None, rsa_bits or None
        )

    async def activate(self, caller: Caller, key_id: str, *, force: bool) -> StoredSigningKey:
        """Let a prepared key sign. Raises `InvalidRequestError` and the errors of `KeyManager.activate`."""
        admit(caller, UseCase.ACTIVATE_SIGNING_KEY)
        return await self._key_manager.activate(caller.actor(), _checked(key_id), force=force)

    async def retire(self, caller: Caller, key_id: str) -> StoredSigningKey:
        """Stop a key from signing. Raises `InvalidRequestError` and the errors of `KeyManager.retire`."""
        admit(caller, UseCase.RETIRE_SIGNING_KEY)
        return await self._key_manager.retire(caller.actor(), _checked(key_id))

    async def preview_retirement(self, caller: Caller, key_id: str) -> Retirement:
        """Tell what `retire` would do now, and change nothing. Raises the errors of `KeyManager.preview_retirement`."""
        admit(caller, UseCase.PREVIEW_KEY_RETIREMENT)
        return await self._key_manager.preview_retirement(_checked(key_id))


def _checked(key_id: str) -> str:
    checks = Checks()
    checks.text("key_id", key_id, MAX_KEY_ID, required=True)
    checks.done()
    return key_id


def _position(key: StoredSigningKey) -> tuple[int, str]:
    """Return the place of a key in the descending list. A page continues there even if the key is deleted."""
    return round(key.create_time * 1_000_000), key.key_id


def _parse_position(text: str) -> tuple[int, str]:
    micros, row_id = parse_page_token(text)
    return micros, text_id(row_id)

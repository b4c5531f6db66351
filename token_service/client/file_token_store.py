"""A token store in one encrypted file that processes share.

The file has a fixed first line, a random nonce (12 bytes), and the tokens in AES-256-GCM with the first line as
additional data. The encryption protects copies of the file that are made without the key: backups, disk images,
synchronized directories. It does not protect the tokens from a program that can read the key, such as any program of
the same user if the key is a file of that user. An attacker who can write the directory can put back an older copy of
the file; the token service then sees an old refresh token and ends the session.
"""

from __future__ import annotations

import errno
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.client._internal.file_lock import FileLock
from token_service.client._internal.token_store import Tokens
from token_service.client._internal.token_text import decode_tokens, encode_tokens
from token_service.errors import ConfigurationError
from token_service.files import read_regular_with_status
from token_service.tokens.secret import Secret

_MAGIC: Final = b"token-service tokens 1\n"
_NONCE_BYTES: Final = 12
_MIN_KEY: Final = 32
_MAX_BYTES: Final = 1024 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PURPOSE: Final = b"token-service token store"
_SAVE_TIMEOUT: Final = 30.0


class FileTokenStore:
    """Store in one file of mode 0600, for any number of processes of one user on one machine.

    A file that other users can read is refused: their programs may have the tokens. Processes take turns: a renewal
    holds a lock on `PATH.lock` from the read of the file to the write of the successor. Not for network file systems
    without flock.
    """

    def __init__(self, path: Path, key: Secret | Path | Callable[[], Secret]) -> None:
        """Configure the store; no file is opened.

        `key` is a secret of at least 32 bytes, a file of mode 0600 that contains one, or a function that returns it,
        e.g. from a secret manager. The key that encrypts is derived from it (HMAC-SHA-256). With another key the stored
        tokens can't be read: log in again.
        """
        self._path = path
        self._key = key
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))

    def load(self) -> Tokens | None:
        """Return the stored tokens, or None if there is no file.

        Raises `PermissionError` if other users can read the file, another `OSError` if it can't be read, and
        `ValueError` if it is damaged or was written with another key.
        """
        try:
            data = _read_private(self._path)
        except FileNotFoundError:
            return None
        begin = len(_MAGIC) + _NONCE_BYTES
        nonce, sealed = data[len(_MAGIC) : begin], data[begin:]
        try:
            if not data.startswith(_MAGIC):
                raise ValueError("no such first line")
            return decode_tokens(self._cipher().decrypt(nonce, sealed, _MAGIC))
        except (InvalidTag, ValueError):
            raise ValueError(
                f"{self._path} is damaged, or was written with another key: delete it and log in again"
            ) from None

    def save(self, tokens: Tokens) -> None:
        """Replace the stored tokens. Returns once they are on the disk; raises `OSError` on failure."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = _MAGIC + nonce + self._cipher().encrypt(nonce, encode_tokens(tokens), _MAGIC)
        with self.lock(_SAVE_TIMEOUT):
            _replace(self._path, data)

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        """Exclude other processes until the end of the context. Raises `TimeoutError` after `timeout` seconds."""
        return self._lock.hold(timeout)

    def _cipher(self) -> AESGCM:
        if isinstance(self._key, Secret):
            key = self._key.reveal()
        elif isinstance(self._key, Path):
            key = _read_private(self._key)
        else:
            key = self._key().reveal()
        if len(key) < _MIN_KEY:
            raise ConfigurationError(f"the key of {self._path} has less than {_MIN_KEY} bytes")
        return AESGCM(hmac.digest(key, _PURPOSE, "sha256"))


def _read_private(path: Path) -> bytes:
    """Read a file that only this user can read."""
    data, status = read_regular_with_status(path, _MAX_BYTES)
    if status.st_mode & _OTHERS or status.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(
            errno.EACCES, "other users may read it; if they did not, run chmod 600", str(path)
        )
    return data


def _replace(path: Path, data: bytes) -> None:
    prefix = f".{path.name}."
    # Under the lock no other process writes, so such a file is of a process that was killed.
    for left in path.parent.glob(f"{prefix}*.new"):
        with suppress(OSError):
            left.unlink()
    descriptor, name = tempfile.mkstemp(".new", prefix, path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

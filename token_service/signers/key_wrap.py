"""Private keys at rest: AES-256-GCM under a key-encryption key.

A wrapped key is

    format (1 byte, 1) || nonce (12, random) || ciphertext || tag (16)

The additional data is `token_service key wrap 1`, the id of the key-encryption key and the context of the caller, each
preceded by its length. So a wrapped key can't be moved to another row or to another key-encryption key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.errors import ConfigurationError
from token_service.tokens import base64url
from token_service.tokens.secret import Secret

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


def key_encryption_key_id(key: Secret) -> str:
    """Return the id of a key-encryption key: 16 characters of a SHA-256 with its own label.

    The id reveals nothing about the key.
    """
    digest = hashlib.sha256(b"token_service key-encryption key id" + key.reveal()).digest()
    return base64url.encode(digest[:12])


class AesGcmKeyWrap:
    """A wrap that encrypts with the first of its keys and decrypts with any of them. Implements `KeyWrap`."""

    def __init__(self, keys: Sequence[Secret], entropy: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """Create a wrap. Raises `ValueError` without a key, or if a key is not 32 bytes long."""
        if not keys or any(len(key.reveal()) != _KEY_BYTES for key in keys):
            raise ValueError(f"a key-encryption key has {_KEY_BYTES} bytes")
        self._keys = {key_encryption_key_id(key): AESGCM(key.reveal()) for key in keys}
        self.key_id: str = key_encryption_key_id(keys[0])
        self._entropy = entropy

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        """Encrypt a key with the first key-encryption key, bound to `context`."""
        nonce = self._entropy(_NONCE_BYTES)
        sealed = self._keys[self.key_id].encrypt(nonce, plaintext.reveal(), _bound_to(self.key_id, context))
        return _FORMAT + nonce + sealed

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        """Decrypt a wrapped key.

        Raises `ConfigurationError` if the key-encryption key is not configured, or if the wrapped key or its context
        is not authentic.
        """
        key = self._keys.get(wrapping_key_id)
        if key is None:
            raise ConfigurationError(
                f"the keys in the database are encrypted with the key-encryption key {wrapping_key_id!r}, but the "
                f"configured keys are {', '.join(self._keys)}; add the missing key to TOKEN_SERVICE_KEY_ENCRYPTION_KEY or _FILE"
            )
        if wrapped[:1] != _FORMAT:
            raise ConfigurationError(
                "a key in the database is not wrapped in a format that this version knows"
            )
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return Secret(key.decrypt(nonce, sealed, _bound_to(wrapping_key_id, context)))
        except (InvalidTag, ValueError):
            raise ConfigurationError(
                f"a key in the database is damaged or from another row: it can't be decrypted with {wrapping_key_id!r}; restore "
                "its table from a backup"
            ) from None

    def __repr__(self) -> str:
        return f"<AesGcmKeyWrap {self.key_id}>"


def _bound_to(key_id: str, context: bytes) -> bytes:
    parts = (b"token_service key wrap 1", key_id.encode(), context)
    return b"".join(len(part).to_bytes(4) + part for part in parts)

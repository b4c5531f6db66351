"""Encryption of keys with a key-encryption key."""

from __future__ import annotations

from typing import Protocol

from token_service.tokens.secret import Secret


class KeyWrap(Protocol):
    """Encrypts private keys for storage."""

    key_id: str

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        """Encrypt a key and bind it to `context`."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        """Decrypt a key.

        Raises `ConfigurationError` if the key-encryption key is not configured, or if the ciphertext or its
        context is not authentic.
        """
        ...

"""Encryption of keys by keys."""

from __future__ import annotations

from typing import Protocol

from token_service.tokens.secret import Secret


class KeyWrap(Protocol):
    """Wraps private keys for rest."""

    key_id: str

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        """Encrypt, bound to `context`."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        """Decrypt.

        Raises `ConfigurationError` if no such key-encryption key is configured, or the text or its context is
        not authentic.
        """
        ...

"""Sealed values: short-lived state that a browser or a client carries, unreadable and unchangeable for it.

The text is base64url of

    version (1 byte) || key version (2) || nonce (12) || AES-256-GCM ciphertext and tag

with a key that is derived from the MAC key of that version and the purpose. Every node opens what any node sealed, and
no node stores it. A value opens only for the purpose that it was sealed for.
"""

from __future__ import annotations

import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.errors import KeysStaleError
from token_service.tokens import base64url
from token_service.tokens.opaque_token import MacKeys, NewerKeyError, OpaqueTokenError

MAX_SEALED: Final = 8 * 1024
"""Characters of a sealed value. It has to fit into a URL or a cookie."""
NONCE_BYTES: Final = 12
_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BH")
_RETRY_AFTER: Final = 1.0


def seal(keys: MacKeys, purpose: str, payload: bytes, nonce: bytes, *, max_length: int = MAX_SEALED) -> str:
    """Return the text of a sealed payload. `nonce`: 12 random bytes, used once.

    Raises `ValueError` if the text would be longer than `max_length` characters.
    """
    header = _HEADER.pack(_FORMAT, keys.active)
    ciphertext = _cipher(keys, keys.active, purpose).encrypt(nonce, payload, header)
    text = base64url.encode(header + nonce + ciphertext)
    if len(text) > max_length:
        raise ValueError(f"a sealed value is longer than {max_length} characters")
    return text


def open_sealed(keys: MacKeys, purpose: str, text: str, *, max_length: int = MAX_SEALED) -> bytes:
    """Return the payload of a sealed value.

    Raises `OpaqueTokenError` for every other text. If the value names a newer key than any known key, raises
    `NewerKeyError`, or `KeysStaleError` if the keys are behind, because the value may then be authentic.
    """
    if len(text) > max_length:
        raise OpaqueTokenError("the sealed value is too long", forged=False)
    try:
        data = base64url.decode(text.encode("ascii"))
        version, key_version = _HEADER.unpack_from(data)
    except (ValueError, struct.error):
        raise OpaqueTokenError("the text is not a sealed value", forged=False) from None
    if version != _FORMAT:
        raise OpaqueTokenError("the sealed value has an unknown version", forged=True)
    if key_version not in keys.keys:
        if key_version <= max(keys.keys):
            raise OpaqueTokenError("the sealed value has an unknown key", forged=True)
        if keys.behind:
            raise KeysStaleError(retry_after=_RETRY_AFTER)
        raise NewerKeyError
    header, nonce, ciphertext = (
        data[: _HEADER.size],
        data[_HEADER.size : _HEADER.size + NONCE_BYTES],
        data[_HEADER.size + NONCE_BYTES :],
    )
    try:
        return _cipher(keys, key_version, purpose).decrypt(nonce, ciphertext, header)
    except (InvalidTag, ValueError):
        raise OpaqueTokenError("the sealed value does not verify", forged=True) from None


def _cipher(keys: MacKeys, version: int, purpose: str) -> AESGCM:
    return AESGCM(hmac.digest(keys.key(version).reveal(), b"seal\0" + purpose.encode(), "sha256"))

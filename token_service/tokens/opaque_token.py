"""Refresh, session and personal access tokens: opaque references with a MAC that proves their authenticity.

A token is `rt_`, `st_` or `tspat_` followed by the base64url text of

    version (1 byte) || key version (2) || session id (16) || generation (4) || secret (32) || MAC (16)

with big-endian integers. The MAC is HMAC-SHA-256, cut to 128 bits, over the prefix and all fields before the MAC. A
forgery is therefore refused without a database query, and an authentic token of an older generation is recognized.
The database keeps only the SHA-256 of the secret.

The next secret is derived from the current one. A retry with the superseded token therefore gets the same successor,
and no raw secret is ever stored.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from token_service.errors import KeysStaleError
from token_service.tokens import base64url
from token_service.tokens.claims import TokenKind
from token_service.tokens.secret import Secret

SECRET_BYTES: Final = 32
MAX_GENERATION: Final = 2**32 - 1
_FORMAT: Final = 1
_BODY: Final = struct.Struct(">BH16sI32s")
_MAC_BYTES: Final = 16
_TEXT_LENGTH: Final = -(-(_BODY.size + _MAC_BYTES) * 4 // 3)
_PREFIXES: Final = {TokenKind.REFRESH: "rt_", TokenKind.SESSION: "st_", TokenKind.PERSONAL_ACCESS: "tspat_"}
_ANY_PREFIX: Final = tuple(_PREFIXES.values())
_RETRY_AFTER: Final = 1.0
"""Seconds after which a caller may retry with a token of a key not yet known."""


class OpaqueTokenError(ValueError):
    """The text is not an authentic token.

    `forged` is true for a well-formed text with a wrong MAC, and false for a text without the form of a token.
    """

    def __init__(self, message: str, *, forged: bool) -> None:
        super().__init__(message)
        self.forged = forged


class NewerKeyError(OpaqueTokenError):
    """The token names a newer key than any known key. An attacker can write such a token too."""

    def __init__(self) -> None:
        super().__init__("the token names a newer key than any known key", forged=True)


@dataclass(frozen=True, slots=True)
class MacKeys:
    """The keys for opaque tokens by version, and the version of new tokens.

    An older key stays as long as a session with a token of that key may live.
    """

    keys: Mapping[int, Secret]
    active: int
    behind: bool = False
    """Whether newer keys than these exist or may exist."""

    def __post_init__(self) -> None:
        if self.active not in self.keys:
            raise ValueError("the active version is not among the keys")

    def key(self, version: int) -> Secret:
        """Return the key of a version that is known to exist.

        Raises `KeysStaleError` if this node does not have the key yet.
        """
        try:
            return self.keys[version]
        except KeyError:
            raise KeysStaleError(retry_after=_RETRY_AFTER) from None


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """An opaque token whose MAC was verified, or that this node made."""

    kind: TokenKind
    key_version: int
    session_id: UUID
    generation: int
    """The number of rotations of the refresh token before this one; 0 for the other kinds."""
    secret: Secret

    @property
    def secret_hash(self) -> bytes:
        """The SHA-256 of the secret, 32 bytes: the only form that the database keeps."""
        return hashlib.sha256(self.secret.reveal()).digest()

    def format(self, keys: MacKeys) -> str:
        """Return the text of the token. Raises `KeysStaleError`."""
        body = _BODY.pack(
            _FORMAT, self.key_version, self.session_id.bytes, self.generation, self.secret.reveal()
        )
        prefix = _PREFIXES[self.kind]
        return prefix + base64url.encode(body + _mac(keys.key(self.key_version), prefix, body))

    def successor(self, keys: MacKeys, key_version: int) -> OpaqueToken:
        """Return the next token of the family: always the same one for the same token and key version.

        Raises `KeysStaleError`.
        """
        generation = self.generation + 1
        material = self.secret.reveal() + self.session_id.bytes + struct.pack(">I", generation)
        secret = hmac.digest(keys.key(key_version).reveal(), b"successor" + material, "sha256")
        return OpaqueToken(self.kind, key_version, self.session_id, generation, Secret(secret))


def parse_opaque_token(text: str, keys: MacKeys) -> OpaqueToken:
    """Return the authentic token in `text`. The comparison of the MAC takes constant time.

    Raises `OpaqueTokenError`. If the token names a newer key than any known key, raises `NewerKeyError`, or
    `KeysStaleError` if the keys are behind, because the token may then be authentic.
    """
    kind = next((kind for kind, prefix in _PREFIXES.items() if text.startswith(prefix)), None)
    if kind is None or len(text) != len(_PREFIXES[kind]) + _TEXT_LENGTH:
        raise OpaqueTokenError("the text is not an opaque token", forged=False)
    prefix = _PREFIXES[kind]
    try:
        data = base64url.decode(text[len(prefix) :].encode("ascii"))
    except ValueError:
        raise OpaqueTokenError("the token is not base64url", forged=False) from None
    body, mac = data[: _BODY.size], data[_BODY.size :]
    version, key_version, session_id, generation, secret = _BODY.unpack(body)
    key = keys.keys.get(key_version)
    if version == _FORMAT and key is None and key_version > max(keys.keys):
        if keys.behind:
            raise KeysStaleError(retry_after=_RETRY_AFTER)
        raise NewerKeyError
    if version != _FORMAT or key is None:
        raise OpaqueTokenError("the token has an unknown version", forged=True)
    if not hmac.compare_digest(mac, _mac(key, prefix, body)):
        raise OpaqueTokenError("the MAC does not verify", forged=True)
    return OpaqueToken(kind, key_version, UUID(bytes=session_id), generation, Secret(secret))


def derive_first_secret(
    keys: MacKeys, key_version: int, kind: TokenKind, session_id: UUID, request_id: str
) -> Secret:
    """Derive the first secret of a session from its `request_id`, so that a retry of the request gets the same token.

    Raises `KeysStaleError`.
    """
    material = b"first" + bytes([kind]) + session_id.bytes + request_id.encode()
    return Secret(hmac.digest(keys.key(key_version).reveal(), material, "sha256"))


def looks_opaque(text: str) -> bool:
    """Return whether `text` has the prefix of an opaque token."""
    return text.startswith(_ANY_PREFIX)


def has_form_of_opaque(text: str) -> bool:
    """Return whether `text` has the prefix and the length of an opaque token, so it is most likely a secret."""
    return any(text.startswith(prefix) and len(text) == len(prefix) + _TEXT_LENGTH for prefix in _ANY_PREFIX)


def _mac(key: Secret, prefix: str, body: bytes) -> bytes:
    return hmac.digest(key.reveal(), b"mac" + prefix.encode() + body, "sha256")[:_MAC_BYTES]

"""Sealed personal data and blind indexes.

A sealed value is

    format (1 byte, 1) || data key version (4) || subkey (1, random) || nonce (12, random) || ciphertext || tag (16)

with AES-256-GCM. The key is HMAC-SHA-256 of the data key over the place and the subkey number. So a data key seals
2^40 values of each place before a nonce is likely to repeat, instead of 2^32. The additional data is the header and
the id of the row. So a value can't be moved to another table, column or row.

A blind index is HMAC-SHA-256 of a value under another key, separate for each kind of value. Equal values have equal
indexes, so a database finds a value without knowing it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.core.entropy import Entropy
from token_service.errors import StoreUnavailableError, TokenServiceError
from token_service.tokens import base64url
from token_service.tokens.secret import Secret

MARK: Final = "\x02"
"""The first character of a blind index and of a sealed text. No printable text begins with it."""
KEY_BYTES: Final = 32

_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BIB")
_NONCE_BYTES: Final = 12
_NONCE_ENDS: Final = _HEADER.size + _NONCE_BYTES
_RETRY_AFTER: Final = 1.0
_INDEXES: Final = 8192
"""Blind indexes that a process keeps: those of subjects and devices that it just served."""


class Place(StrEnum):
    """The places of sealed values: a table, and the column or the group of columns."""

    SESSION = "sessions.personal"
    SESSION_CREATION = "sessions.create_ip_address"
    SESSION_LAST_USE = "sessions.last_ip_address"
    SESSION_ORIGINS = "sessions.origins"
    AUDIT_EVENT = "audit_events.salt"
    REVOCATION = "revocations.personal"
    DEVICE_DECISION = "device_requests.decision"
    LOGOUT_SUBJECT = "logout_deliveries.subject"


class Kind(StrEnum):
    """The kinds of values that are looked up."""

    SUBJECT = "subject"
    DEVICE = "device"
    UPSTREAM_SESSION = "upstream_session"


class UnknownDataKeyError(StoreUnavailableError):
    """A value is sealed with a data key that this process does not have, so it may be a newer one."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"personal data in the database is encrypted with data key {version}, which this node does not have; if the "
            "error persists, restore the table personal_data_keys from a backup",
            retry_after=_RETRY_AFTER,
        )


class DamagedPersonalDataError(TokenServiceError):
    """A sealed value was changed, or belongs to another row."""

    def __init__(self, place: Place) -> None:
        super().__init__(
            f"a sealed value of {place.value} in the database is damaged or from another row; restore the row from a backup"
        )


class PersonalCipher:
    """Seals, opens and indexes personal data with unwrapped keys."""

    def __init__(self, data_keys: Mapping[int, Secret], index_key: Secret, entropy: Entropy) -> None:
        """The data key with the highest version seals; all open."""
        self._data_keys: Final = dict(data_keys)
        self._index_keys: Final = {
            kind: hmac.digest(index_key.reveal(), b"index\0" + kind.value.encode(), "sha256") for kind in Kind
        }
        self._entropy: Final = entropy
        self.version: Final = max(data_keys)
        """The version of the data key that seals."""
        self._subkeys: Final[dict[Place, dict[int, AESGCM]]] = {place: {} for place in Place}
        self.index: Final = lru_cache(_INDEXES)(self._index)
        """Returns the blind index of a kind and a value. The index of an empty value is empty."""

    def seal(self, place: Place, row: bytes, plaintext: bytes) -> bytes:
        """Return a sealed value of a row."""
        random = self._entropy(1 + _NONCE_BYTES)
        header = _HEADER.pack(_FORMAT, self.version, random[0])
        nonce = random[1:]
        sealed = self._key(self.version, place, random[0]).encrypt(nonce, plaintext, header + row)
        return header + nonce + sealed

    def open(self, place: Place, row: bytes, sealed: bytes) -> bytes:
        """Return the plaintext of a sealed value of a row.

        Raises `UnknownDataKeyError`, and `DamagedPersonalDataError` for every value that `seal` did not return for
        the place and the row.
        """
        try:
            form, version, subkey = _HEADER.unpack_from(sealed)
        except struct.error:
            raise DamagedPersonalDataError(place) from None
        if form != _FORMAT:
            raise DamagedPersonalDataError(place)
        if version not in self._data_keys:
            raise UnknownDataKeyError(version)
        nonce, ciphertext = sealed[_HEADER.size : _NONCE_ENDS], sealed[_NONCE_ENDS:]
        try:
            return self._key(version, place, subkey).decrypt(nonce, ciphertext, sealed[: _HEADER.size] + row)
        except (InvalidTag, ValueError):
            raise DamagedPersonalDataError(place) from None

    def seal_text(self, place: Place, row: bytes, plaintext: bytes) -> str:
        """Return a sealed value as a text that begins with `MARK`."""
        return MARK + base64url.encode(self.seal(place, row, plaintext))

    def open_text(self, place: Place, row: bytes, text: str) -> bytes:
        """Return the plaintext of a text of `seal_text`. Raises the errors of `open`."""
        try:
            sealed = base64url.decode(text[1:].encode("ascii"))
        except ValueError:
            raise DamagedPersonalDataError(place) from None
        return self.open(place, row, sealed)

    def _index(self, kind: Kind, value: str) -> str:
        if not value:
            return ""
        digest = hmac.digest(self._index_keys[kind], value.encode("utf-8", "surrogatepass"), "sha256")
        return MARK + base64url.encode(digest)

    def _key(self, version: int, place: Place, subkey: int) -> AESGCM:
        subkeys, number = self._subkeys[place], version << 8 | subkey
        key = subkeys.get(number)
        if key is None:
            label = b"seal\0" + place.value.encode() + b"\0" + bytes((subkey,))
            derived = hmac.digest(self._data_keys[version].reveal(), label, "sha256")
            key = subkeys[number] = AESGCM(derived)
        return key

    def __repr__(self) -> str:
        return f"<PersonalCipher {self.version}>"

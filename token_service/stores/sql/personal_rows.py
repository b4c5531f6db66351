"""The sealed values of rows. See `core.personal_data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import structs

from token_service.core.events.chain import PERSONAL, AuditRow, personal_of
from token_service.core.events.event import Origin
from token_service.core.personal_data.cipher import (
    MARK,
    DamagedPersonalDataError,
    Kind,
    PersonalCipher,
    Place,
)
from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.sessions.session import Session

_encode: Final = msgspec.json.Encoder().encode


class PersonalFields(NamedTuple):
    """The personal fields of a session."""

    subject: str
    device_id: str
    name: str
    custom_claims: Mapping[str, Any]
    identity_claims: Mapping[str, Any]
    upstream_session: str


_fields: Final = msgspec.json.Decoder(PersonalFields).decode
_origin: Final = msgspec.json.Decoder(Origin).decode
_pair: Final = msgspec.json.Decoder(tuple[str, str]).decode
_audit: Final = msgspec.json.Decoder(tuple[bytes, tuple[str, ...]]).decode
_DAMAGED_SALT: Final = b"damaged"
"""A salt that no commitment was made with, so that the verification reports the row."""


def personal_fields(session: Session) -> PersonalFields:
    """Return the personal fields of a session."""
    return PersonalFields(
        session.subject,
        session.device_id,
        session.name,
        session.custom_claims,
        session.identity_claims,
        session.upstream_session,
    )


def seal_session(cipher: PersonalCipher, session_id: UUID, fields: PersonalFields) -> bytes:
    """Return `sessions.personal`."""
    return cipher.seal(Place.SESSION, session_id.bytes, _encode(fields))


def open_session(keys: PersonalKeys, session_id: UUID, sealed: bytes) -> PersonalFields:
    """Return the personal fields of `sessions.personal`."""
    return _fields(keys.opening().open(Place.SESSION, session_id.bytes, sealed))


def indexes_of(cipher: PersonalCipher, fields: PersonalFields) -> dict[str, str | None]:
    """Return the personal columns of an encrypted session besides `personal` and the origins."""
    return {
        "subject": cipher.index(Kind.SUBJECT, fields.subject),
        "device_id": cipher.index(Kind.DEVICE, fields.device_id),
        "upstream_session": cipher.index(Kind.UPSTREAM_SESSION, fields.upstream_session) or None,
        "name": None,
        "custom_claims": "{}",
        "identity_claims": None,
    }


def seal_origin(cipher: PersonalCipher, place: Place, session_id: UUID, origin: Origin) -> str:
    """Return the address column of an encrypted origin. The column of the user agent is then empty."""
    return cipher.seal_text(place, session_id.bytes, _encode(origin))


def open_origin(
    keys: PersonalKeys, place: Place, session_id: UUID, address: str | None, agent: str | None
) -> Origin | None:
    """Return the origin of two columns, encrypted or not; None: both are null."""
    if address is not None and address.startswith(MARK):
        return _origin(keys.opening().open_text(place, session_id.bytes, address))
    return None if address is None and agent is None else Origin(address or "", agent or "")


def plain(text: str) -> str:
    """Return a text that is stored unencrypted. It does not begin with `MARK`, so it is not taken for a sealed one."""
    return "\ufffd" + text[1:] if text.startswith(MARK) else text


def seal_audit_row(cipher: PersonalCipher, row: AuditRow) -> None:
    """Encrypt the personal fields and the salt of a row in place, because a copy would cost as much as the row."""
    if row.salt is None:
        return
    sealed = cipher.seal(Place.AUDIT_EVENT, _place_of(row), _encode((row.salt, personal_of(row))))
    for name in PERSONAL:
        value = cipher.index(Kind.SUBJECT, getattr(row, name)) if name in _INDEXED else ""
        structs.force_setattr(row, name, value)
    structs.force_setattr(row, "salt", sealed)


def open_audit_row(keys: PersonalKeys, row: AuditRow) -> AuditRow:
    """Return a row with its personal fields and its salt. The fields of a damaged value are empty."""
    if not is_sealed(row):
        return row
    assert row.salt is not None
    try:
        salt, fields = _audit(keys.opening().open(Place.AUDIT_EVENT, _place_of(row), row.salt))
    except (DamagedPersonalDataError, msgspec.MsgspecError):
        return structs.replace(row, salt=_DAMAGED_SALT, **dict.fromkeys(PERSONAL, ""))
    return structs.replace(row, salt=salt, **dict(zip(PERSONAL, fields, strict=True)))


def is_sealed(row: AuditRow) -> bool:
    """Whether a row is encrypted. A salt has `SALT_BYTES`, and a sealed value has more."""
    return row.salt is not None and len(row.salt) > _MAX_SALT


_INDEXED: Final = frozenset({"on_behalf_of", "subject"})
_MAX_SALT: Final = 32


def _place_of(row: AuditRow) -> bytes:
    return f"{row.chain_id}\0{row.position}".encode()


def seal_entry(cipher: PersonalCipher, sequence: int, value: str, comment: str) -> bytes:
    """Return `revocations.personal`."""
    return cipher.seal(Place.REVOCATION, sequence.to_bytes(8), _encode((value, comment)))


def open_entry(keys: PersonalKeys, sequence: int, sealed: bytes) -> tuple[str, str]:
    """Return the value and the comment of `revocations.personal`."""
    return _pair(keys.opening().open(Place.REVOCATION, sequence.to_bytes(8), sealed))


def open_text(keys: PersonalKeys, place: Place, row: bytes, text: str) -> str:
    """Return the text of a column that holds a sealed text or a plain one."""
    return keys.opening().open_text(place, row, text).decode() if text.startswith(MARK) else text


def sealed_text(keys: PersonalKeys, place: Place, row: bytes, text: str) -> str:
    """Return the text that a new row holds for a text that is not looked up."""
    cipher = keys.sealing
    return plain(text) if cipher is None else cipher.seal_text(place, row, text.encode())

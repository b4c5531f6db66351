"""The conversion between rows and the types of core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.keys.store import StoredMacKey, StoredSigningKey
from token_service.core.personal_data.cipher import Kind, Place
from token_service.core.personal_data.keys import PLAIN, PersonalKeys
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.core.sessions.details import Floor, SessionDetails
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Amendment, Judged, Raise
from token_service.stores.sql import schema
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_rows import (
    PersonalFields,
    indexes_of,
    open_entry,
    open_origin,
    open_session,
    open_text,
    personal_fields,
    plain,
    seal_entry,
    seal_origin,
    seal_session,
    sealed_text,
)
from token_service.tokens.claims import AuthContext, Confirmation
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

DAMAGED: Final = "its row in the database can't be read"
"""The reason why a stream or a webhook is disabled whose row is damaged."""

_S: Final = schema.sessions.c
ORIGIN_COLUMNS: Final[tuple[sa.Column[Any], ...]] = (
    _S.create_ip_address,
    _S.create_user_agent,
    _S.last_ip_address,
    _S.last_user_agent,
    _S.origin_tag,
    _S.origins,
)
"""The columns that only `details_of` reads."""

SESSION_COLUMNS: Final[tuple[sa.Column[Any], ...]] = tuple(
    column
    for column in _S
    if column.name not in {"request_hash", "purge_time", "races", *(c.name for c in ORIGIN_COLUMNS)}
)
"""The columns of a session in the order of `session_of`; `floor` and `head` follow."""

FLOOR_KINDS: Final = (RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING)
"""The kinds of floors in the order of `details_of`."""

_ORIGINS: Final = len(SESSION_COLUMNS) + 2
_FLOORS: Final = _ORIGINS + len(ORIGIN_COLUMNS)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_BEARER: Final = Confirmation()
_NO_CLAIMS: Final[Mapping[str, Any]] = {}
_ANY_TIME: Final = 2**62
_SAME_ORIGIN: Final[dict[str, Any]] = {"p_last_ip_address": None, "p_last_user_agent": None}


def session_of(row: Sequence[Any], keys: PersonalKeys) -> Session:
    """Return the session of a row with `SESSION_COLUMNS`, its floor and the head. Ignores further columns.

    Raises `UnknownDataKeyError` and `DamagedPersonalDataError`.
    """
    (
        id_,
        create_time,
        rotate_time,
        last_use_time,
        idle_expire_time,
        absolute_expire_time,
        revoke_time,
        generation,
        revision,
        key_version,
        retries,
        access_token_ttl,
        revoke_reason,
        with_id_token,
        subject,
        client_id,
        device_id,
        refresh_hash,
        previous_hash,
        session_hash,
        scopes,
        audience,
        auth_context,
        confirmation,
        custom_claims,
        personal_hash,
        name,
        identity_claims,
        upstream,
        upstream_session,
        personal,
        classification,
        floor,
        head,
        *_,
    ) = row
    session_id = id_ if isinstance(id_, UUID) else UUID(id_)
    if personal is None:
        claims = _NO_CLAIMS if custom_claims == "{}" else _decode(custom_claims)
        identity = _NO_CLAIMS if identity_claims is None else _decode(identity_claims)
    else:
        fields = open_session(keys, session_id, personal)
        subject, device_id, name, claims, identity, upstream_session = fields
    return Session(
        id=session_id,
        subject=subject,
        client_id=client_id,
        device_id=device_id,
        scopes=_texts(scopes),
        audience=_texts(audience),
        auth_context=None if auth_context is None else _auth_context(auth_context),
        confirmation=_BEARER if confirmation is None else Confirmation(**_decode(confirmation)),
        custom_claims=claims,
        access_token_ttl=access_token_ttl,
        with_id_token=bool(with_id_token),
        generation=generation,
        refresh_hash=refresh_hash,
        previous_hash=previous_hash,
        key_version=key_version,
        retries=retries,
        session_hash=session_hash,
        personal_hash=personal_hash,
        name=name or "",
        identity_claims=identity,
        upstream=upstream or "",
        upstream_session=upstream_session or "",
        classification=classification or "",
        create_time=create_time / 1_000_000,
        rotate_time=rotate_time / 1_000_000,
        last_use_time=last_use_time / 1_000_000,
        idle_expire_time=idle_expire_time / 1_000_000,
        absolute_expire_time=absolute_expire_time / 1_000_000,
        revision=revision,
        revoke_time=to_seconds(revoke_time),
        revoke_reason=_REASONS[revoke_reason],
        floor=floor,
        head=head,
    )


def details_of(row: Sequence[Any], keys: PersonalKeys) -> SessionDetails:
    """Return the details of a row: the columns of `session_of`, `ORIGIN_COLUMNS`, and for each of `FLOOR_KINDS` its
    sequence, time and reason. Ignores further columns.
    """
    created_ip, created_agent, last_ip, last_agent, tag, origins = row[_ORIGINS:_FLOORS]
    session = session_of(row, keys)
    created = open_origin(keys, Place.SESSION_CREATION, session.id, created_ip, created_agent) or NO_ORIGIN
    last = open_origin(keys, Place.SESSION_LAST_USE, session.id, last_ip, last_agent) or created
    floors = []
    for place, kind in enumerate(FLOOR_KINDS):
        sequence, raise_time, reason = row[_FLOORS + 3 * place : _FLOORS + 3 * place + 3]
        if sequence is not None:
            floors.append(Floor(kind, sequence, raise_time / 1_000_000, _REASONS[reason]))
    known = open_text(keys, Place.SESSION_ORIGINS, session.id.bytes, origins or "")
    return SessionDetails(session, created, last, tuple(floors), b"" if tag is None else bytes(tag), known)


def values_of_last_use(session_id: UUID, origin: Origin, keys: PersonalKeys) -> dict[str, Any]:
    """Return the parameters for the origin of a use. Nulls leave the columns as they are."""
    if origin == NO_ORIGIN:
        return _SAME_ORIGIN
    address, agent = origin_columns(Place.SESSION_LAST_USE, session_id, origin, keys)
    return {"p_last_ip_address": address, "p_last_user_agent": agent}


def values_of_device(device_id: str, keys: PersonalKeys) -> dict[str, Any]:
    """Return the parameters for the device of a caller: the two texts that a row may hold for it."""
    forms = keys.forms(Kind.DEVICE, device_id)
    return {"p_device_id": forms[0], "p_device_id_too": forms[-1]}


def values_of_judged(session_id: UUID, judged: Judged, keys: PersonalKeys) -> dict[str, Any]:
    """Return the parameters of a judgment. A null leaves the origins as they are."""
    origins = judged.origins
    if origins is not None:
        origins = sealed_text(keys, Place.SESSION_ORIGINS, session_id.bytes, origins)
    return {
        "p_expected_tag": judged.expected_tag or None,
        "p_renewed_by": _ANY_TIME if judged.renewed_by == inf else to_micros(judged.renewed_by),
        "p_tag": judged.tag or None,
        "p_origins": origins,
    }


def values_of(
    session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN, keys: PersonalKeys = PLAIN
) -> dict[str, Any]:
    """Return the columns of a new session except `revision`, which the database sets, and those of its last use."""
    address, agent = origin_columns(Place.SESSION_CREATION, session.id, origin, keys)
    idle, absolute = to_micros(session.idle_expire_time), to_micros(session.absolute_expire_time)
    return {
        "id": session.id,
        "create_time": to_micros(session.create_time),
        "rotate_time": to_micros(session.rotate_time),
        "last_use_time": to_micros(session.last_use_time),
        "idle_expire_time": idle,
        "absolute_expire_time": absolute,
        "purge_time": min(idle, absolute),
        "revoke_time": to_micros(session.revoke_time),
        "generation": session.generation,
        "key_version": session.key_version,
        "retries": session.retries,
        "access_token_ttl": session.access_token_ttl,
        "revoke_reason": int(session.revoke_reason),
        "with_id_token": session.with_id_token,
        "client_id": session.client_id,
        "refresh_hash": session.refresh_hash,
        "previous_hash": session.previous_hash,
        "session_hash": session.session_hash,
        "personal_hash": session.personal_hash,
        "upstream": session.upstream or None,
        "classification": session.classification or None,
        "request_hash": request_hash,
        "scopes": _json(session.scopes),
        "audience": _json(session.audience),
        "auth_context": None if session.auth_context is None else _json(session.auth_context),
        "confirmation": _confirmation(session.confirmation) if session.confirmation else None,
        "create_ip_address": address or None,
        "create_user_agent": agent or None,
        **values_of_fields(session.id, personal_fields(session), keys),
    }


def values_of_fields(session_id: UUID, fields: PersonalFields, keys: PersonalKeys) -> dict[str, Any]:
    """Return the columns of the personal fields of a session, besides its origins."""
    cipher = keys.sealing
    if cipher is not None:
        return {**indexes_of(cipher, fields), "personal": seal_session(cipher, session_id, fields)}
    return {
        "subject": fields.subject,
        "device_id": fields.device_id,
        "name": fields.name or None,
        "identity_claims": _json(fields.identity_claims) if fields.identity_claims else None,
        "upstream_session": fields.upstream_session or None,
        "custom_claims": _json(fields.custom_claims) if fields.custom_claims else "{}",
        "personal": None,
    }


def plain_fields(row: Any) -> PersonalFields:
    """Return the personal fields of a row of `sessions` that is not encrypted."""
    return PersonalFields(
        subject=row.subject,
        device_id=row.device_id,
        name=row.name or "",
        custom_claims=_decode(row.custom_claims),
        identity_claims={} if row.identity_claims is None else _decode(row.identity_claims),
        upstream_session=row.upstream_session or "",
    )


def origin_columns(place: Place, session_id: UUID, origin: Origin, keys: PersonalKeys) -> tuple[str, str]:
    """Return the columns of an origin: the address and the user agent, or the sealed origin and an empty text."""
    cipher = keys.sealing
    if cipher is None or origin == NO_ORIGIN:
        return plain(origin.ip_address), plain(origin.user_agent)
    return seal_origin(cipher, place, session_id, origin), ""


def values_of_proved(proved: Sequence[Confirmation]) -> dict[str, Any]:
    """Return the parameters for the keys that a caller proves, two at most."""
    texts = [_confirmation(each) for each in proved]
    first, second = (*texts, None, None)[:2]
    return {"p_proved": first, "p_proved_too": second}


def values_of_amendment(command: Amendment) -> dict[str, Any]:
    """Return the parameters of an amendment. An empty `auth_context` removes it."""
    context = command.auth_context
    return {
        "p_id": command.session_id,
        "p_now": to_micros(command.now),
        "p_expected_scopes": _json(command.expected_scopes),
        "p_scopes": _json(command.scopes),
        "p_custom_claims": None if command.custom_claims is None else _json(command.custom_claims),
        "p_personal": None,
        "p_auth_context": None
        if not command.with_auth_context
        else ""
        if context is None
        else _json(context),
    }


def values_of_raise(command: Raise) -> dict[str, Any]:
    """Return the parameters of a raise."""
    return {
        "p_id": command.session_id,
        "p_client_id": command.client_id,
        "p_now": to_micros(command.now),
        "p_expected": "" if command.expected is None else _json(command.expected),
        "p_auth_context": _json(command.auth_context),
    }


def head_of(row: Sequence[Any]) -> LogHead:
    """Return the head of a row of `log_head.HEAD`. Ignores further columns."""
    return LogHead(
        row[0],
        row[1],
        row[2],
        row[3],
        to_seconds(row[4]),
        awaited=row[5],
        read_time=to_seconds(row[6]),
        client_revision=row[7],
        policies_revision=row[11],
    )


REVOCATION_COLUMNS: Final[tuple[sa.Column[Any], ...]] = tuple(
    column for column in schema.revocations.c if column.name != "comment"
)


def revocation_of(row: Sequence[Any], keys: PersonalKeys = PLAIN) -> Revocation:
    """Return the revocation of a row with `REVOCATION_COLUMNS`.

    Raises `UnknownDataKeyError` and `DamagedPersonalDataError`.
    """
    sequence, revoke_time, expire_time, token_expire_time, target, reason, value, personal = row
    if personal is not None and target == RevocationTarget.SUBJECT:
        value, _ = open_entry(keys, sequence, personal)
    return Revocation(
        sequence=sequence,
        target=RevocationTarget(target),
        value=value,
        revoke_time=revoke_time / 1_000_000,
        expire_time=expire_time / 1_000_000,
        reason=RevocationReason(reason),
        token_expire_time=token_expire_time,
    )


def values_of_draft(draft: RevocationDraft, sequence: int, read_time: float) -> dict[str, Any]:
    """Return the columns of a log entry that is appended at `read_time` of the clock of the database."""
    return {
        "sequence": sequence,
        "revoke_time": to_micros(draft.revoke_time),
        "expire_time": to_micros(draft.expires(read_time)),
        "token_expire_time": draft.token_expire_time,
        "target": int(draft.target),
        "reason": int(draft.reason),
        "value": draft.value,
        "comment": draft.comment,
        "personal": None,
    }


def sealed_entry(values: Mapping[str, Any], keys: PersonalKeys) -> dict[str, Any]:
    """Return the columns of a log entry, encrypted if new values are."""
    cipher = keys.sealing
    is_subject = values["target"] == RevocationTarget.SUBJECT
    if cipher is None or not (is_subject or values["comment"]):
        return {**values}
    value, comment = values["value"], values["comment"]
    return {
        **values,
        "value": cipher.index(Kind.SUBJECT, value) if is_subject else value,
        "comment": "",
        "personal": seal_entry(cipher, values["sequence"], value, comment),
    }


def values_of_signing_key(key: StoredSigningKey) -> dict[str, Any]:
    """Return the columns of a signing key."""
    return {
        "key_id": key.key_id,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "public_key": key.public_key,
        "private_key": key.private_key,
        "wrapping_key_id": key.wrapping_key_id,
        "provider": key.provider,
        "certificates": _json(key.certificates),
        "create_time": to_micros(key.create_time),
        "activate_time": to_micros(key.activate_time),
        "retire_time": to_micros(key.retire_time),
        "revoke_time": to_micros(key.revoke_time),
    }


def values_of_mac_key(key: StoredMacKey) -> dict[str, Any]:
    """Return the columns of a MAC key."""
    return {
        "version": key.version,
        "wrapped": key.wrapped,
        "wrapping_key_id": key.wrapping_key_id,
        "create_time": to_micros(key.create_time),
    }


def _json(value: object) -> str:
    return _encode(value).decode()


def _confirmation(value: Confirmation) -> str:
    """Return the text of a key. It is compared in statements, and nodes of earlier releases read it."""
    return _json({"jkt": value.jkt, "x5t_s256": value.x5t_s256})


@lru_cache(4096)  # nearly all rows share a few lists
def _texts(text: str) -> tuple[str, ...]:
    return tuple(_decode(text))


def _auth_context(text: str) -> AuthContext:
    members = _decode(text)
    return AuthContext(members["acr"], tuple(members["amr"]), members["auth_time"])


_REASONS: Final = {int(reason): reason for reason in RevocationReason}

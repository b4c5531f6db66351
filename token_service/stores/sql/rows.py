"""The conversion between rows and the types of core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.keys.store import StoredMacKey, StoredSigningKey
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.core.sessions.details import Floor, SessionDetails
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Amendment, Raise
from token_service.stores.sql import schema
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.tokens.claims import AuthContext, Confirmation
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

_S: Final = schema.sessions.c
ORIGIN_COLUMNS: Final[tuple[sa.Column[Any], ...]] = (
    _S.create_ip_address,
    _S.create_user_agent,
    _S.last_ip_address,
    _S.last_user_agent,
)
"""The columns that only GetSession and ListSessions read."""

SESSION_COLUMNS: Final[tuple[sa.Column[Any], ...]] = tuple(
    column
    for column in _S
    if column.name not in {"request_hash", "purge_time", *(c.name for c in ORIGIN_COLUMNS)}
)
"""The columns of a session in the order of `session_of`; `floor` and `head` follow."""

FLOOR_KINDS: Final = (RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING)
"""The kinds of floors in the order of `details_of`."""

_ORIGINS: Final = len(SESSION_COLUMNS) + 2
_FLOORS: Final = _ORIGINS + len(ORIGIN_COLUMNS)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_BEARER: Final = Confirmation()
_SAME_ORIGIN: Final[dict[str, Any]] = {"p_last_ip_address": None, "p_last_user_agent": None}


def session_of(row: Sequence[Any]) -> Session:
    """Return the session of a row with `SESSION_COLUMNS`, its floor and the head. Ignores further columns."""
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
        floor,
        head,
        *_,
    ) = row
    return Session(
        id=id_ if isinstance(id_, UUID) else UUID(id_),
        subject=subject,
        client_id=client_id,
        device_id=device_id,
        scopes=_texts(scopes),
        audience=_texts(audience),
        auth_context=None if auth_context is None else _auth_context(auth_context),
        confirmation=_BEARER if confirmation is None else Confirmation(**_decode(confirmation)),
        custom_claims={} if custom_claims == "{}" else _decode(custom_claims),
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
        identity_claims={} if identity_claims is None else _decode(identity_claims),
        upstream=upstream or "",
        upstream_session=upstream_session or "",
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


def details_of(row: Sequence[Any]) -> SessionDetails:
    """Return the details of a row: the columns of `session_of`, `ORIGIN_COLUMNS`, and for each of `FLOOR_KINDS` its
    sequence, time and reason. Ignores further columns.
    """
    created_ip, created_agent, last_ip, last_agent = row[_ORIGINS:_FLOORS]
    created = Origin(created_ip or "", created_agent or "")
    last = created if last_ip is None else Origin(last_ip, last_agent)
    floors = []
    for place, kind in enumerate(FLOOR_KINDS):
        sequence, raise_time, reason = row[_FLOORS + 3 * place : _FLOORS + 3 * place + 3]
        if sequence is not None:
            floors.append(Floor(kind, sequence, raise_time / 1_000_000, _REASONS[reason]))
    return SessionDetails(session_of(row), created, last, tuple(floors))


def values_of_last_use(origin: Origin) -> dict[str, Any]:
    """Return the parameters for the origin of a use. Nulls leave the columns as they are."""
    if origin == NO_ORIGIN:
        return _SAME_ORIGIN
    return {"p_last_ip_address": origin.ip_address, "p_last_user_agent": origin.user_agent}


def values_of(session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN) -> dict[str, Any]:
    """Return the columns of a new session except `revision`, which the database sets, and those of its last use."""
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
        "subject": session.subject,
        "client_id": session.client_id,
        "device_id": session.device_id,
        "refresh_hash": session.refresh_hash,
        "previous_hash": session.previous_hash,
        "session_hash": session.session_hash,
        "personal_hash": session.personal_hash,
        "name": session.name or None,
        "identity_claims": _json(session.identity_claims) if session.identity_claims else None,
        "upstream": session.upstream or None,
        "upstream_session": session.upstream_session or None,
        "request_hash": request_hash,
        "scopes": _json(session.scopes),
        "audience": _json(session.audience),
        "auth_context": None if session.auth_context is None else _json(session.auth_context),
        "confirmation": _json(session.confirmation) if session.confirmation else None,
        "custom_claims": _json(session.custom_claims) if session.custom_claims else "{}",
        "create_ip_address": origin.ip_address or None,
        "create_user_agent": origin.user_agent or None,
    }


def values_of_amendment(command: Amendment) -> dict[str, Any]:
    """Return the parameters of an amendment. An empty `auth_context` removes it."""
    context = command.auth_context
    return {
        "p_id": command.session_id,
        "p_now": to_micros(command.now),
        "p_expected_scopes": _json(command.expected_scopes),
        "p_scopes": _json(command.scopes),
        "p_custom_claims": None if command.custom_claims is None else _json(command.custom_claims),
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
    """Return the head of a row with `epoch, sequence, compacted_sequence, key_revision, newest_time, awaited_sequence`,
    the time of the database and `client_revision`. Ignores further columns.
    """
    return LogHead(
        row[0],
        row[1],
        row[2],
        row[3],
        to_seconds(row[4]),
        awaited=row[5],
        read_time=to_seconds(row[6]),
        client_revision=row[7],
    )


REVOCATION_COLUMNS: Final[tuple[sa.Column[Any], ...]] = tuple(
    column for column in schema.revocations.c if column.name != "comment"
)


def revocation_of(row: Sequence[Any]) -> Revocation:
    """Return the revocation of a row with `REVOCATION_COLUMNS`."""
    sequence, revoke_time, expire_time, token_expire_time, target, reason, value = row
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


@lru_cache(4096)  # nearly all rows share a few lists
def _texts(text: str) -> tuple[str, ...]:
    return tuple(_decode(text))


def _auth_context(text: str) -> AuthContext:
    members = _decode(text)
    return AuthContext(members["acr"], tuple(members["amr"]), members["auth_time"])


_REASONS: Final = {int(reason): reason for reason in RevocationReason}

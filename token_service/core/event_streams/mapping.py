"""Security events of rows of the audit trail: which event types a row becomes, about whom, and with which members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from token_service.core.event_streams.event_types import (
    ACCOUNT_PURGED,
    CREDENTIAL_CHANGE,
    CREDENTIAL_COMPROMISE,
    SESSION_REVOKED,
    SESSIONS_REVOKED,
    TOKEN_CLAIMS_CHANGE,
)
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.tokens.revocation import RevocationReason

_fields: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class About:
    """The part of this service that an event is about. Empty members are not named."""

    subject: str = ""
    session_id: str = ""
    client_id: str = ""
    """The client that the session belongs to or, without a session, the client itself."""
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """What a row says, for receivers: who it is about, and the members of each event type."""

    about: About
    events: Mapping[str, Mapping[str, Any]]


_REASONS: Final[Mapping[str, str]] = {
    RevocationReason.LOGOUT.name: "The user has logged out.",
    RevocationReason.COMPROMISED.name: "It was reported as compromised.",
    RevocationReason.ADMINISTRATIVE.name: "An administrator has revoked it.",
    RevocationReason.REFRESH_TOKEN_REUSED.name: "A refresh token was used twice.",
    RevocationReason.CREDENTIALS_CHANGED.name: "The credentials of the user have changed.",
    RevocationReason.CLIENT_DISABLED.name: "The client was disabled.",
}
_OTHERWISE: Final[Mapping[str, str]] = {
    Action.CLIENT_SECRET_ROTATED.value: "The client has a new secret.",
    Action.SESSION_UPDATED.value: "The claims of the session were changed.",
    Action.CLIENT_DISABLED.value: "The client was disabled.",
    Action.CLIENT_DELETED.value: "The client was deleted.",
    Action.LOG_RENEWED.value: "Revocations may have been lost, so every session has ended.",
}
_CAUSES: Final[Mapping[str, tuple[str, str]]] = {
    "risk": ("policy", "Its use was judged to be a risk."),
    "security_event": ("system", "An identity provider has reported a security event."),
    "threshold": ("policy", "A limit of suspicious events was reached."),
    "age": ("policy", "It was older than the policy allows."),
    "inactivity": ("policy", "It was unused for longer than the policy allows."),
    "classification": ("policy", "The classification of the client has changed."),
    "administrator": ("admin", "An administrator has revoked it by a rule."),
}
"""The initiating entity and the reason of a revocation that a rule has made, by the `cause` of the row."""


def happened(row: AuditRow) -> Happened | None:
    """Return what a row says for receivers; None: nothing."""
    read = _READERS.get(row.action)
    return None if read is None or row.outcome != "success" else read(row)


def _revoked(row: AuditRow) -> Happened | None:
    members = _members(row)
    match row.target_kind:
        case "session":
            return Happened(
                About(subject=row.subject, session_id=row.session_id, client_id=row.client_id),
                {SESSION_REVOKED: members},
            )
        case "subject" if row.subject:
            events: dict[str, Mapping[str, Any]] = {SESSION_REVOKED: members, SESSIONS_REVOKED: members}
            if row.reason == RevocationReason.CREDENTIALS_CHANGED.name:
                events[CREDENTIAL_CHANGE] = _changed(members, "unspecified")
            elif row.reason == RevocationReason.COMPROMISED.name:
                events[CREDENTIAL_COMPROMISE] = {**members, "credential_type": "unspecified"}
            if _decoded(row).get("erasure"):
                events[ACCOUNT_PURGED] = members
            return Happened(About(subject=row.subject), events)
        case "client":
            return Happened(About(client_id=row.target_id), {SESSION_REVOKED: members})
        case "everything":
            return Happened(About(everything=True), {SESSION_REVOKED: members})
    return None  # a single token or a key: no event type speaks of these


def _client_ended(row: AuditRow) -> Happened:
    return Happened(About(client_id=row.target_id), {SESSION_REVOKED: _members(row)})


def _log_renewed(row: AuditRow) -> Happened | None:
    fields = _decoded(row)
    if fields.get("nothing_lost"):
        return None
    return Happened(About(everything=True), {SESSION_REVOKED: _members(row)})


def _reused(row: AuditRow) -> Happened:
    about = About(subject=row.subject, session_id=row.session_id, client_id=row.client_id)
    members = _members(row, RevocationReason.REFRESH_TOKEN_REUSED.name)
    return Happened(
        about,
        {
            SESSION_REVOKED: members,
            CREDENTIAL_COMPROMISE: {**members, "credential_type": "refresh_token"},
        },
    )


def _secret_rotated(row: AuditRow) -> Happened:
    return Happened(
        About(client_id=row.target_id), {CREDENTIAL_CHANGE: _changed(_members(row), "client_secret")}
    )


def _session_updated(row: AuditRow) -> Happened | None:
    """Name the new scopes and the new `acr`. The audit trail holds no values of other claims."""
    fields = _decoded(row)
    claims: dict[str, str] = {}
    scopes = fields.get("scopes")
    if isinstance(scopes, list):
        claims["scope"] = " ".join(map(str, scopes))
    if isinstance(acr := fields.get("acr"), str) and acr:
        claims["acr"] = acr
    if not claims:
        return None
    about = About(subject=row.subject, session_id=row.session_id, client_id=row.client_id)
    return Happened(about, {TOKEN_CLAIMS_CHANGE: {**_members(row), "claims": claims}})


_READERS: Final[Mapping[str, Callable[[AuditRow], Happened | None]]] = {
    Action.REVOKED.value: _revoked,
    Action.REFRESH_TOKEN_REUSED.value: _reused,
    Action.CLIENT_DISABLED.value: _client_ended,
    Action.CLIENT_DELETED.value: _client_ended,
    Action.CLIENT_SECRET_ROTATED.value: _secret_rotated,
    Action.SESSION_UPDATED.value: _session_updated,
    Action.LOG_RENEWED.value: _log_renewed,
}
TOLD: Final = frozenset(_READERS)
"""The actions whose rows can become events."""


def _members(row: AuditRow, reason: str = "") -> dict[str, Any]:
    """Return the members that every CAEP event may have (CAEP 1.0, section 2). The comment stays here."""
    entity, why = _CAUSES.get(str(_decoded(row).get("cause", "")), ("", ""))
    reason = reason or row.reason
    members: dict[str, Any] = {
        "event_timestamp": row.time // 1_000_000,
        "initiating_entity": entity or _entity(row, reason),
    }
    members["reason_admin"] = {
        "en": why or _REASONS.get(reason) or _OTHERWISE.get(row.action, "It was revoked.")
    }
    return members


def _entity(row: AuditRow, reason: str) -> str:
    if row.actor_kind == "operator":
        return "admin"
    if row.actor_kind == "system" or reason == RevocationReason.REFRESH_TOKEN_REUSED.name:
        return "system"
    if reason in {RevocationReason.LOGOUT.name, RevocationReason.CREDENTIALS_CHANGED.name}:
        return "user"
    return "admin" if reason == RevocationReason.ADMINISTRATIVE.name else "system"


def _changed(members: Mapping[str, Any], credential: str) -> dict[str, Any]:
    return {**members, "credential_type": credential, "change_type": "update"}


def _decoded(row: AuditRow) -> Mapping[str, Any]:
    try:
        return _fields(row.fields)
    except msgspec.MsgspecError:
        return {}  # changed by hand


def requested(event: Happened, types: Sequence[str]) -> list[str]:
    """Return the event types of `event` that a stream delivers."""
    return [each for each in event.events if each in types]

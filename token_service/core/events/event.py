"""Audit events: who did what to which target, from where, and how it ended.

They are created for each call, so they are msgspec structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec


class Category(StrEnum):
    """The way in which an event is kept."""

    ADMINISTRATIVE = "administrative"
    """A change that an operator or a schedule makes. Its row is written in the transaction of the change."""
    SECURITY = "security"
    """A revocation, a reuse or a refusal. The row of a change is written in the transaction of the change."""
    ROUTINE = "routine"
    """As frequent as calls; written in batches."""


class Action(StrEnum):
    """The recorded actions."""

    TOKEN_ISSUED = "token.issued"
    TOKEN_REFRESHED = "token.refreshed"
    TOKEN_EXCHANGED = "token.exchanged"
    REVOKED = "revoked"
    REFRESH_TOKEN_REUSED = "refresh_token.reused"
    REFRESH_TOKEN_RACED = "refresh_token.raced"
    RISK_DETECTED = "risk.detected"
    SECURITY_EVENT_RECEIVED = "security_event.received"
    CLIENT_CREATED = "client.created"
    CLIENT_UPDATED = "client.updated"
    CLIENT_SECRET_ROTATED = "client.secret_rotated"
    CLIENT_DISABLED = "client.disabled"
    CLIENT_ENABLED = "client.enabled"
    CLIENT_DELETED = "client.deleted"
    CLIENT_AUTHENTICATION_FAILED = "client.authentication_failed"
    SESSION_UPDATED = "session.updated"
    SESSION_EXPIRED = "session.expired"
    POLICIES_CHANGED = "policies.changed"
    LOG_RENEWED = "log.renewed"
    SIGNING_KEY_PREPARED = "signing_key.prepared"
    SIGNING_KEY_ACTIVATED = "signing_key.activated"
    SIGNING_KEY_RETIRED = "signing_key.retired"
    SIGNING_KEY_FORGOTTEN = "signing_key.forgotten"
    SIGNING_KEY_CERTIFIED = "signing_key.certified"
    MAC_KEY_PREPARED = "mac_key.prepared"
    KEYS_REWRAPPED = "keys.rewrapped"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_UPDATED = "webhook.updated"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"
    WEBHOOK_DELETED = "webhook.deleted"
    EVENT_STREAM_CREATED = "event_stream.created"
    EVENT_STREAM_UPDATED = "event_stream.updated"
    EVENT_STREAM_DELETED = "event_stream.deleted"
    SUBJECT_EXPORTED = "subject.exported"
    SUBJECT_ERASED = "subject.erased"
    PERSONAL_DATA_KEY_CREATED = "personal_data_key.created"
    PERSONAL_DATA_ENCRYPTION_CHANGED = "personal_data.encryption_changed"
    REFUSALS_REPORTED = "validation.refusals_reported"
    PERMISSION_DENIED = "permission.denied"
    QUOTA_EXCEEDED = "quota.exceeded"
    AUDIT_ERASED = "audit.erased"
    AUDIT_EVENTS_LOST = "audit.events_lost"

    @property
    def category(self) -> Category:
        """The category of all events of this action."""
        return _CATEGORIES.get(self, Category.ADMINISTRATIVE)


_CATEGORIES: Final = {
    Action.TOKEN_ISSUED: Category.ROUTINE,
    Action.TOKEN_REFRESHED: Category.ROUTINE,
    Action.TOKEN_EXCHANGED: Category.ROUTINE,
    Action.SESSION_EXPIRED: Category.ROUTINE,
    Action.REFUSALS_REPORTED: Category.ROUTINE,
    Action.REVOKED: Category.SECURITY,
    Action.REFRESH_TOKEN_RACED: Category.SECURITY,
    Action.RISK_DETECTED: Category.SECURITY,
    Action.SECURITY_EVENT_RECEIVED: Category.SECURITY,
    Action.REFRESH_TOKEN_REUSED: Category.SECURITY,
    Action.SESSION_UPDATED: Category.SECURITY,
    Action.CLIENT_AUTHENTICATION_FAILED: Category.SECURITY,
    Action.PERMISSION_DENIED: Category.SECURITY,
    Action.QUOTA_EXCEEDED: Category.SECURITY,
    Action.AUDIT_EVENTS_LOST: Category.SECURITY,
}


class Outcome(StrEnum):
    """The end of an action."""

    SUCCESS = "success"
    DENIED = "denied"


ACTOR_SESSION: Final = "actor_session_id"
"""The field with the session of the actor."""


class Actor(msgspec.Struct, frozen=True):
    """The actor behind an event."""

    kind: str
    """`caller` of an RPC, `operator` at the console or with access to the database, or `system`: a job of a node."""
    name: str
    """The name of the caller, the subject or `user@host` of the operator, or the name of the job."""
    client_id: str = ""
    on_behalf_of: str = ""
    """The subject for whom the caller acts."""
    proof: str = ""
    """The method that authenticated a caller."""
    session_id: str = ""
    """The session of an operator at the console. It is kept in the fields of the event, as `actor_session_id`."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def system(cls, job: str) -> Actor:
        """Return a background job of a node."""
        return cls("system", job)


class Target(msgspec.Struct, frozen=True):
    """The object of an action, and the subject, session and client that it belongs to."""

    kind: str = ""
    """`token`, `session`, `session_update`, `subject`, `client`, `key`, `everything`, `log`, `call`, …"""
    id: str = ""
    subject: str = ""
    session_id: str = ""
    client_id: str = ""


class Origin(msgspec.Struct, frozen=True):
    """The origin of the end user's request, as the caller reports it."""

    ip_address: str = ""
    user_agent: str = ""


NO_TARGET: Final = Target()
NO_ORIGIN: Final = Origin()


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. No field may hold a token, a key or a secret."""

    action: Action
    actor: Actor
    target: Target = NO_TARGET
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    comment: str = ""
    """Free text of the actor."""
    origin: Origin = NO_ORIGIN
    fields: Mapping[str, Any] = {}
    """Further details of this action; their values are JSON. They never hold personal data."""
    time: float | None = None
    """Seconds since the Unix epoch; None: the time at which the row is written."""

    def line(self) -> dict[str, object]:
        """Return the fields of the event's log line."""
        target = self.target
        line: dict[str, object]
        if target.kind in _OF_SESSIONS:
            line = {
                "subject": target.subject,
                "client_id": target.client_id,
                "session_id": target.session_id,
                **({"token_id": target.id} if target.kind == "token" else {}),
                **self.fields,
                "ip_address": self.origin.ip_address,
                "user_agent": self.origin.user_agent,
            }
        elif self.action is Action.REVOKED:
            line = {
                "target": target.kind.upper(),
                "value": target.id,
                "reason": self.reason,
                "comment": self.comment,
                **self.fields,
            }
        else:
            line = {**({f"{target.kind}_id": target.id} if target.id else {}), **self.fields}
            if self.origin.ip_address:
                line["address"] = self.origin.ip_address
            if self.reason:
                line["reason"] = self.reason
            if self.comment:
                line["comment"] = self.comment
        line["actor"] = str(self.actor)
        if self.actor.session_id:
            line[ACTOR_SESSION] = self.actor.session_id
        line["outcome"] = self.outcome.value
        return line


_OF_SESSIONS: Final = frozenset({"token", "refresh_token", "session_update"})
"""Kinds of targets whose lines name a subject, a client and a session, even if they are empty."""

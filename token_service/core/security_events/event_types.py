"""The event types that can become revocations (CAEP 1.0, RISC 1.0), and what each does unless the operator says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from token_service.tokens.revocation import RevocationReason

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
_SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
VERIFICATION: Final = f"{_SSF}verification"
"""The event by which a transmitter proves that the stream works. Its `state` is the one that the operator asked with."""
STREAM_UPDATED: Final = f"{_SSF}stream-updated"
"""The event by which a transmitter tells that it has paused, disabled or enabled the stream."""


class EventAction(StrEnum):
    """What an event does."""

    REVOKE_SESSION = "revoke_session"
    """Ends the sessions that came of the session at the provider; if the event names none, those of the subject."""
    REVOKE_SUBJECT = "revoke_subject"
    """Ends all that the subject holds, at every client."""
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class EventType:
    """A known event type."""

    uri: str
    default: EventAction
    reason: RevocationReason
    harmless: tuple[str, frozenset[str]] | None = None
    """A member of the event, and the values with which the event reports an improvement and never revokes."""

    @property
    def name(self) -> str:
        """The name in the policy file: the last part of the URI."""
        return self.uri.rpartition("/")[2]

    def is_harmless(self, event: Mapping[str, Any]) -> bool:
        """Tell whether an event of this type reports no danger. An unknown or missing value counts as danger."""
        if self.harmless is None:
            return False
        member, values = self.harmless
        value = event.get(member)
        return isinstance(value, str) and value in values


_TYPES: Final = (
    EventType(f"{_CAEP}session-revoked", EventAction.REVOKE_SESSION, RevocationReason.LOGOUT),
    EventType(
        f"{_CAEP}credential-change",
        EventAction.REVOKE_SESSION,
        RevocationReason.CREDENTIALS_CHANGED,
        ("change_type", frozenset({"create"})),
    ),
    EventType(f"{_CAEP}token-claims-change", EventAction.IGNORE, RevocationReason.ADMINISTRATIVE),
    EventType(
        f"{_CAEP}assurance-level-change",
        EventAction.REVOKE_SESSION,
        RevocationReason.ADMINISTRATIVE,
        ("change_direction", frozenset({"increase"})),
    ),
    EventType(
        f"{_CAEP}device-compliance-change",
        EventAction.REVOKE_SESSION,
        RevocationReason.ADMINISTRATIVE,
        ("current_status", frozenset({"compliant"})),
    ),
    EventType(f"{_RISC}account-disabled", EventAction.REVOKE_SUBJECT, RevocationReason.ADMINISTRATIVE),
    EventType(f"{_RISC}account-purged", EventAction.REVOKE_SUBJECT, RevocationReason.ADMINISTRATIVE),
    EventType(f"{_RISC}sessions-revoked", EventAction.REVOKE_SESSION, RevocationReason.LOGOUT),
    EventType(f"{_RISC}credential-compromise", EventAction.REVOKE_SUBJECT, RevocationReason.COMPROMISED),
    EventType(f"{_RISC}identifier-changed", EventAction.IGNORE, RevocationReason.ADMINISTRATIVE),
    EventType(f"{_RISC}identifier-recycled", EventAction.REVOKE_SUBJECT, RevocationReason.ADMINISTRATIVE),
)
EVENT_TYPES: Final[Mapping[str, EventType]] = {each.uri: each for each in _TYPES}
"""The known event types by URI."""
BY_NAME: Final[Mapping[str, EventType]] = {each.name: each for each in _TYPES}
"""The known event types by their name in the policy file."""

"""What GetSession and ListSessions show of a session besides its row: its origin and its end."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.sessions.session import Session
from token_service.tokens.revocation import RevocationReason, RevocationTarget


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest revocation of a subject, of a client or of everything."""

    target: RevocationTarget
    sequence: int
    raise_time: float
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    """UNSPECIFIED also if a node of an earlier version raised the floor."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The revocation that ended a session."""

    through: RevocationTarget
    """SESSION, SUBJECT, CLIENT or EVERYTHING."""
    time: float
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class SessionDetails:
    """A session, its origin, and the floors of its subject, of its client and of everything, in one snapshot."""

    session: Session
    created_from: Origin = NO_ORIGIN
    last_used_from: Origin = NO_ORIGIN
    floors: tuple[Floor, ...] = ()
    origin_tag: bytes = b""
    """Tells whether a use has the same origin as the last one that was judged; empty: none was, or the next one must be."""
    origins: str = ""
    """The origins of earlier uses as `risk` writes them; empty: no use was judged. Personal data."""

    def end(self) -> SessionEnd | None:
        """Return the earliest revocation that ended the session; None: it was not revoked.

        Floors are compared by sequence, which is the order of their commits. The row has no sequence of its own
        revocation, so that one is compared by time; it counts if the times are equal.
        """
        session = self.session
        above = [floor for floor in self.floors if floor.sequence > session.revision]
        first = min(above, key=lambda floor: floor.sequence, default=None)
        if session.revoke_time is not None and (first is None or session.revoke_time <= first.raise_time):
            return SessionEnd(RevocationTarget.SESSION, session.revoke_time, session.revoke_reason)
        return None if first is None else SessionEnd(first.target, first.raise_time, first.reason)

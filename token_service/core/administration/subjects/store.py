"""The port for the data about a subject that no other store finds or erases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Actor
from token_service.core.events.store import AuditPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectData:
    """Numbers of rows about a subject."""

    sessions: int = 0
    """Sessions and personal access tokens, live or not."""
    events: int = 0
    """Audit events of the subject and of its sessions, with personal fields."""
    device_requests: int = 0
    logouts: int = 0
    """Clients that are still to be told of the end of a session."""

    def __add__(self, other: SubjectData) -> SubjectData:
        """Return the sums."""
        return SubjectData(
            sessions=self.sessions + other.sessions,
            events=self.events + other.events,
            device_requests=self.device_requests + other.device_requests,
            logouts=self.logouts + other.logouts,
        )


@dataclass(frozen=True, slots=True)
class PendingLogout:
    """A client that is still to be told of the end of a session."""

    session_id: UUID
    client_id: str
    create_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedDevice:
    """The request of a device that a subject has approved, until its tokens are issued."""

    client_id: str
    scopes: Sequence[str]
    audience: Sequence[str]
    expire_time: float
    approval: Mapping[str, Any]
    """The approval as JSON: the subject, its authentication and its claims."""


class SubjectStore(Protocol):
    """Data about one subject. Each method raises `StoreUnavailableError`.

    The erasing methods change a bounded number of rows in one transaction, so a process that is killed leaves a part of
    the work, which the next call continues. The transaction records the number of erased events as `audit.erased` by
    `actor`, because the verification of the trail compares both.
    """

    async def count(self, subject: str) -> SubjectData:
        """Count the rows about a subject."""
        ...

    async def session_ids(self, subject: str, after: str, limit: int) -> Sequence[str]:
        """Return up to `limit` ids above `after` of the sessions of the table and of the subject's audit events, in order."""
        ...

    async def acts(self, subject: str, *, limit: int, after: AuditPosition | None) -> Sequence[AuditRow]:
        """Return up to `limit` events, newest first, that a caller caused for the subject.

        Events of the subject itself are left out.
        """
        ...

    async def device_requests(self, subject: str) -> Sequence[ApprovedDevice]:
        """Return the requests of devices that the subject has approved. They live for minutes."""
        ...

    async def logouts(self, subject: str, limit: int) -> Sequence[PendingLogout]:
        """Return up to `limit` clients that are still to be told of the end of a session of the subject."""
        ...

    async def erase_sessions(self, actor: Actor, subject: str, now: float, limit: int) -> SubjectData:
        """Delete ended sessions of a subject, and erase the personal fields of their audit events, up to `limit` of each.

        A session is deleted after its events are erased, because its id finds them. Sessions that are live at `now` stay.
        Returns the numbers of changed rows; nothing is left once they are 0.
        """
        ...

    async def erase_events(self, actor: Actor, subject: str, limit: int) -> int:
        """Erase the personal fields of up to `limit` audit events; return how many.

        Events that name the subject are erased last, because they find those that name only a session.
        """
        ...

    async def erase_device_requests(self, subject: str) -> int:
        """Delete the requests of devices that the subject has approved; return how many."""
        ...

"""The port for the stored audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from token_service.core.events.chain import AuditKeys, AuditRow
from token_service.core.events.checkpoint import Checkpoint, Place
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.tokens.revocation import Cursor, Revocation

REVOKING: Final = tuple(
    action.value
    for action in (
        Action.REVOKED,
        Action.REFRESH_TOKEN_REUSED,
        Action.CLIENT_DISABLED,
        Action.CLIENT_DELETED,
    )
)
"""The actions that append an entry to the revocation log."""
_fields: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Conditions on rows; an empty one does not count. Times are in seconds since the Unix epoch."""

    actor: str = ""
    subject: str = ""
    session_id: str = ""
    client_id: str = ""
    actions: Sequence[str] = ()
    target_kind: str = ""
    target_id: str = ""
    """Of a target that is not a subject."""
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class AuditPosition:
    """The last row of a page, in descending order of (time, chain_id, position)."""

    time: int
    chain_id: str
    position: int


@dataclass(frozen=True, slots=True)
class ChainExtent:
    """The part of a chain that has the events of a time range. Rows between may have other times."""

    chain_id: str
    first: int
    """The lowest position of the events."""
    last: int
    events: int


class AuditStore(Protocol):
    """The stored audit trail: chains of rows, and checkpoints.

    Changes of other stores write their rows in their own transactions, as the last statements, to the same chain.
    """

    @property
    def keys(self) -> AuditKeys:
        """The keys of the chains. Raises `ConfigurationError` if none are configured."""

    def announce_routine(self, announce: bool, /) -> None:  # noqa: FBT001 - what the method sets
        """Change whether routine events go into the event log as the others do."""
        ...

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """Write the rows of events in a transaction of their own."""
        ...

    async def list(
        self, where: AuditFilter, *, limit: int, after: AuditPosition | None
    ) -> Sequence[AuditRow]:
        """Return up to `limit` rows after a position, newest first."""
        ...

    async def of_entries(self, epoch: str, entries: Sequence[Revocation]) -> Mapping[int, AuditRow]:
        """Return the rows of the entries of a log, by sequence, in one query. Entries without a row are missing."""
        ...

    async def rows(self, chain_id: str, after: int, limit: int) -> Sequence[AuditRow]:
        """Return up to `limit` rows of a chain with a position above `after`, in order."""
        ...

    async def extents(self, since: int, until: int) -> Sequence[ChainExtent]:
        """Return the extents of the chains that have events from `since` to before `until`, by chain.

        Times are in microseconds since the Unix epoch.
        """
        ...

    async def histogram(
        self, actions: Sequence[str], since: int, until: int, width: int
    ) -> Mapping[tuple[str, int], int]:
        """Return the numbers of events by action and by interval: the interval n begins at n times `width`.

        Times are in microseconds since the Unix epoch. Intervals without events are missing.
        """
        ...

    async def chains(self) -> dict[str, Place]:
        """Return the last place of each chain as its writer noted it."""
        ...

    async def chains_of_rows(self) -> Sequence[str]:
        """Return the chains that have rows."""
        ...

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        """Return up to `limit` checkpoints with a number above `after`, in order."""
        ...

    async def checkpoint(self, now: float, *, full: bool = False) -> Checkpoint | None:
        """Write and return a checkpoint of the heads that moved.

        None if no head moved and `full` is not given, or if another node wrote one at the same time.
        """
        ...

    async def prune(self, before: float, checkpoints_before: float, now: float, limit: int) -> int:
        """Delete up to `limit` rows at the beginnings of chains that are older than `before`; return how many.

        Writes a full checkpoint with the cuts in the same transaction, and deletes the checkpoints before the newest
        full one that is older than `checkpoints_before`. A chain is deleted with its last row.
        """
        ...

    async def erase(self, actor: Actor, subject: str) -> int:
        """Erase the personal fields of all rows of a subject and of its sessions; return the number of rows.

        Records the erasure, without the subject, in the same transaction.
        """
        ...


def cursor_of(row: AuditRow) -> Cursor | None:
    """Return the place in the log of the entry that an event speaks of; None: it speaks of none."""
    try:
        return Cursor.parse(_fields(row.fields)["cursor"])
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError):
        return None  # not the event of an entry, or changed by hand

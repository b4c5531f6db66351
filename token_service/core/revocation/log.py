"""The revocation log: its port, its head and the drafts of its entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol, TypeAlias

from token_service.core.clients.store import ClientEnd
from token_service.core.events.event import AuditEvent
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log."""

    epoch: str
    """The name of this log: a new database has another."""
    sequence: int
    compacted: int
    """Entries up to this sequence are purged; none of them can match a valid token."""
    key_revision: int
    """Grows whenever the signing keys or the server's secrets change."""
    newest: float | None = None
    """`revoke_time` of the last entry; None: not known.

    Distinguishes it from another entry with the same sequence, in a database that was restored from a backup
    and has grown since.
    """
    follows: float | None = field(default=None, compare=False)
    """After an append: `newest` before the entries of that call."""
    awaited: int = field(default=0, compare=False)
    """The highest sequence for which a call waits, or has waited, until subscribers confirm it."""
    read_time: float = field(default=inf, compare=False)
    """Time at which the head was read, by the database's clock."""
    client_revision: int = 0
    """Grows by one with every change of a registered client."""
    policies_revision: int = 0
    """Grows by one with every change of the overrides of the policies."""


class LogMovedError(StoreUnavailableError):
    """The log was written on another server, or before a failover: this server may lack its last entries.

    The log can't be read or appended to until it is renewed.
    """

    default_message = (
        "the database server was promoted or replaced since the revocation log was written: run "
        "`token-service log renew`, with `--nothing-lost` if no commit was lost"
    )

    def __init__(self, head: LogHead, *, nothing_lost: bool, promoted: bool = False) -> None:
        """Create the error.

        `nothing_lost`: the server was a synchronous standby and has every acknowledged entry. `promoted`: it was a
        standby of the cluster that wrote the log, synchronous or not.
        """
        super().__init__(retry_after=1.0)
        self.head = head
        self.nothing_lost = nothing_lost
        self.promoted = promoted


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationDraft:
    """A log entry before it has a sequence."""

    target: RevocationTarget
    value: str
    revoke_time: float
    expire_time: float
    remember: float | None = None
    """Minimal lifetime in seconds after the append, by the database's clock; None: `expire_time` alone counts.

    The clock that `expire_time` was computed from may be behind.
    """
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    token_expire_time: int | None = None
    awaited: bool = False
    """Whether a call waits until subscribers have confirmed the entry: the append sets the head's `awaited`."""
    restored: bool = False
    """Whether a failover lost the entry. It is appended even if its session or key is unknown or revoked already."""
    client_end: ClientEnd | None = None
    """For a CLIENT that is to be disabled or deleted as well."""
    event: AuditEvent | None = None
    """The audit event of the entry. Its row is written in the transaction of the append; none if the draft is left out."""
    verdict: AuditEvent | None = None
    """The audit event of the verdict that demands the revocation. Its row is written like that of `event`, before it."""

    def expires(self, read_time: float) -> float:
        """Return the expiry of the entry if it is appended at `read_time` by the database's clock."""
        return self.expire_time if self.remember is None else max(self.expire_time, read_time + self.remember)


FloorPosition: TypeAlias = tuple[int, str]
"""Kind and target of a floor."""


class RevocationLog(Protocol):
    """The authoritative record of revocations.

    Commit order is sequence order and sequences have no gaps: a reader that sees entry n also sees all entries
    below n, except the compacted ones.
    """

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        """Append drafts, and apply the effect of each target, in one transaction.

        - SESSION: sets revoke_time and revoke_reason of the row; the draft is left out if the row does not
          exist or is revoked already;
        - SUBJECT, CLIENT, EVERYTHING: raises the floor to the entry's sequence. This is O(1) for any number of
          sessions: their `revision` below the floor ends them;
        - KEY: the signing key becomes revoked and key_revision grows; the draft is left out if the key is
          unknown or revoked already;
        - CLIENT with `client_end`: also disables or deletes the client, and client_revision grows; the draft is
          left out if the client is not registered, has another revision, or has ended so already;
        - TOKEN_ID: no other effect.

        A `restored` draft is never left out.

        Returns the head after the commit (at least as high as every entry) and the entries appended.
        Concurrent calls of one node may share a commit. Raises `LogMovedError`.
        """
        ...

    async def head(self) -> LogHead:
        """Return the head, read after the call began from a server that can write. Raises `LogMovedError`."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """Return up to `limit` entries with a sequence above `after`, in order.

        Gaps exist only where entries were compacted, and before a renewal that kept the earlier entries.
        """
        ...

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """Restart the log in one transaction, as `epoch`, at `sequence`; return the new head.

        `draft`, which revokes EVERYTHING, becomes the entry `sequence` and raises the floor. The revocations
        of keys follow unchanged, because a token signed with a stolen key may claim any time of issue.
        Every other entry is compacted.

        With `keep` all entries stay unchanged, before a gap in the sequences, and `draft` is a TOKEN_ID.

        Works where `head` and `append` raise `LogMovedError`. Changes nothing and returns None if the epoch of
        the log is no longer `replaces` or its head is not below `sequence`.
        """
        ...

    async def compact(self, now: float, limit: int) -> int:
        """Purge up to `limit` of the oldest entries; return how many.

        Stops at the first entry that did not expire before `now`.
        """
        ...

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """Delete floors of subjects and clients that were raised before a time and are above no session.

        Examines up to `limit` floors after a position. `before` must lie further back than any statement
        takes, because a session that is being created is not visible. Returns the number of deleted floors and
        the position of the last examined floor, None at the end of all floors.
        """
        ...

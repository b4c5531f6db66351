"""The revocation log: the port, its head and its entries to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol, TypeAlias

from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where the log ends."""

    epoch: str
    """The name of this log: a new database has another."""
    sequence: int
    compacted: int
    """Entries up to this one are purged; none of them can hit a valid token."""
    key_revision: int
    """Grows whenever the signing keys or the server's secrets change."""
    newest: float | None = None
    """`revoke_time` of the last entry: what tells it from another one at the same sequence, in a database
    that was put back to a backup and has grown again. None: not known.
    """
    follows: float | None = field(default=None, compare=False)
    """As returned by an append: `newest` as it was before the entries of that call."""
    awaited: int = field(default=0, compare=False)
    """Up to which entry somebody waits, or has waited, for validators to confirm."""
    read_time: float = field(default=inf, compare=False)
    """When it was read, by the database's clock."""


class LogMovedError(StoreUnavailableError):
    """The log was written on another server, or before a failover: this one may lack its last entries.

    Nothing is read from it or appended until it is renewed.
    """

    default_message = (
        "the database server was promoted or replaced since the revocation log was written: run "
        "`token-service log renew`, with `--nothing-lost` if no commit was lost"
    )

    def __init__(self, head: LogHead, *, nothing_lost: bool) -> None:
        """`nothing_lost`: a synchronous standby has every entry that was acknowledged."""
        super().__init__(retry_after=1.0)
        self.head = head
        self.nothing_lost = nothing_lost


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationDraft:
    """An entry to be: everything but its sequence."""

    target: RevocationTarget
    value: str
    revoke_time: float
    expire_time: float
    remember: float | None = None
    """Seconds after the append, by the database's clock, before which it does not expire either: the clock that
    `expire_time` was reckoned by may be behind. None: `expire_time` alone counts.
    """
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    token_expire_time: int | None = None
    awaited: bool = False
    """Whether somebody waits until validators have confirmed it: the head says so from then on."""

    def expires(self, read_time: float) -> float:
        """When the entry expires if it is appended at `read_time` by the database's clock."""
        return self.expire_time if self.remember is None else max(self.expire_time, read_time + self.remember)


FloorPosition: TypeAlias = tuple[int, str]
"""Kind and target of a floor."""


class RevocationLog(Protocol):
    """The truth about revocations.

    Commit order is sequence order and sequences have no gaps: whoever sees entry n sees, or will never see
    because they are compacted, all entries below n.
    """

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        """Append, unless that raises `LogMovedError`, in one transaction, with what goes with each target:

        - SESSION: sets revoke_time and revoke_reason of the row; if there is no such row or it is revoked
          already, the draft is left out;
        - SUBJECT, CLIENT, EVERYTHING: raises the floor to the entry's sequence. O(1) however many sessions
          there are: they are dead by their `revision`;
        - KEY: the signing key becomes revoked and key_revision grows; a key not known or revoked already is
          left out;
        - TOKEN_ID: nothing else.

        Returns the head after the commit (at least as high as every entry) and the entries appended.
        Concurrent calls of one node may share a commit.
        """
        ...

    async def head(self) -> LogHead:
        """The head, read after the call began from a server that can write. Raises `LogMovedError`."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """Up to `limit` entries with a sequence above `after`, in order, without gaps (but for compacted
        ones, of which it has none, and before a renewal that kept them).
        """
        ...

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """Begin the log anew in one transaction, as `epoch`, at `sequence`; the new head.

        `draft`, which revokes EVERYTHING, becomes the entry `sequence` and raises the floor. The revocations
        of keys follow it as they were, for what a stolen key signs may say anything about when it was issued.
        Every other entry is compacted.

        With `keep` all entries stay as they are, before a gap in the sequences, and `draft` is a TOKEN_ID.

        Works where `head` and `append` raise `LogMovedError`. Changes nothing and returns None if the log is not `replaces` any more
        or is not below `sequence`.
        """
        ...

    async def compact(self, now: float, limit: int) -> int:
        """Purge up to `limit` of the oldest entries, as long as they expired before `now`; stops at the first
        one that did not. How many.
        """
        ...

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """Look at up to `limit` floors of subjects and clients after a position, and delete those raised
        before a time that are above no session.

        `before` must lie further back than any statement takes, for a session being created is not seen. How
        many were deleted, and the position of the last one looked at; None at the end of all floors.
        """
        ...

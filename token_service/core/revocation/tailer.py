"""Moves the replica along the log: from this node's own appends, and from SQL. Hints only trigger a read.

Correctness depends only on reads of the SQL head, at an interval and on demand. Appends and hints only make
the replica faster.

The replica never has the revocation of a client whose registry entry is older. Otherwise a client that was just
disabled could get a token which claims to know the revocation, and which the revocation would not match.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from token_service.clock import Clock
from token_service.core.revocation.known_entries import CAPACITY, KnownEntries, LostEntries
from token_service.core.revocation.log import LogHead, RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.restored_log import (
    AnotherLogError,
    contiguous,
    continues,
    differ,
    report_change,
)
from token_service.core.revocation.revisions import RevisionedCopies
from token_service.core.revocation.steady_time import SteadyTime
from token_service.errors import (
    ReplicaStaleError,
    StoreUnavailableError,
    TokenServiceError,
)
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget
from token_service.tokens.revocation_set import RevocationSet

_PAGE: Final = 2000
_SWEEP_INTERVAL: Final = 30.0
_CHANGE_OVER_INTERVAL: Final = 0.01
_RESTORED_AT_ONCE: Final = 500

logger = logging.getLogger(__name__)


class Tailer:
    """The one follower of the log in a process."""

    def __init__(
        self,
        log: RevocationLog,
        replica: Replica,
        read_index: ReadIndex,
        copies: RevisionedCopies,
        clock: Clock,
        *,
        poll_interval: float,
        max_staleness: float,
        time: SteadyTime | None = None,
    ) -> None:
        """`time` decides when expired entries are dropped; None: a steady time that begins now."""
        self._log = log
        self._replica = replica
        self._read_index = read_index
        self._copies = copies
        self._clock = clock
        self._time = time or SteadyTime(clock)
        self._poll_interval = poll_interval
        self._max_staleness = max_staleness
        self._fresh_until = float("-inf")
        self._looked = float("-inf")
        self._look_failed = False
        self._trouble = "it can't be read in time"
        self._looking = asyncio.Lock()
        self._known = KnownEntries()
        self._wanted: LogHead | None = None
        self._listeners: list[Callable[[LogHead], None]] = []
        self._wake = asyncio.Event()
        self._swept = float("-inf")

    @property
    def staleness(self) -> float:
        """Seconds since the replica was last known to be complete; a LOCAL answer may be behind by this much."""
        return self._clock.monotonic() - (self._fresh_until - self._max_staleness)

    @property
    def trouble(self) -> str:
        """The reason of the last failure to follow the log."""
        return self._trouble

    def on_head(self, listener: Callable[[LogHead], None]) -> None:
        """Call `listener` with each head of the followed log, as it becomes known.

        The listener must not block or raise.
        """
        self._listeners.append(listener)

    def require_fresh(self) -> None:
        """Raise `ReplicaStaleError` if the replica may be more than `max_staleness` behind."""
        if self._clock.monotonic() > self._fresh_until:
            raise ReplicaStaleError(retry_after=1.0)

    def offer(self, head: LogHead, entries: Sequence[Revocation]) -> None:
        """Take entries that this node has just committed, with a head that includes them.

        The replica applies them if they follow its last entry, and if every changed client is known.
        """
        replica, before = self._replica, head.follows
        self._known.note(head.epoch, entries)
        if head.epoch == replica.epoch and self._copies.has_clients(head):
            self._tell(head)
            for number, entry in enumerate(entries):
                if entry.sequence == replica.applied + 1:
                    if differ(before, replica.newest):
                        self._wake.set()  # it follows another entry than the replica's last: read the log
                        return
                    replica.apply(contiguous(entries[number:]))
                before = entry.revoke_time
        if (
            head.epoch != replica.epoch
            or replica.applied < head.sequence
            or not self._copies.are_current(head)
        ):
            self._want(head)

    async def meet_clients(self, head: LogHead) -> None:
        """Load the clients that changed up to a head of this node's own append, so that `offer` applies its entries.

        If the store is unavailable, the loop does it later.
        """
        if head.epoch == self._replica.epoch and not self._copies.has_clients(head):
            with suppress(StoreUnavailableError):
                await self._copies.refresh_clients(head)

    def hint(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Take entries seen in the mirror as a reason to read SQL at once.

        They are never applied: a writer of the mirror could replace a real entry by another one.
        """
        if epoch == self._replica.epoch and any(entry.sequence > self._replica.applied for entry in entries):
            self._wake.set()

    async def catch_up(self) -> Cursor:
        """Wait until the replica has every entry acknowledged before this call; return its cursor.

        Raises `StoreUnavailableError`.
        """
        replica = self._replica
        while True:
            began, before, newest = self._clock.monotonic(), replica.cursor, replica.newest
            head = await self._read_index.head()
            if continues(head, before, newest):
                cursor = Cursor(head.epoch, head.sequence)
                if replica.epoch == head.epoch and replica.applied < head.sequence:
                    self._want(head)
                    await replica.wait_for(cursor)
                if replica.epoch == head.epoch and replica.applied >= head.sequence:
                    self._prove_fresh(began)
                    return replica.cursor
            else:
                self._wake.set()  # another log: the loop changes over to it
                await asyncio.sleep(_CHANGE_OVER_INTERVAL)

    async def look_since(self, asked: float, *, apart: float, unless: Callable[[], bool]) -> None:
        """Wait for a look at the log that began after `asked` (monotonic), and share it with other callers.

        Looks begin at least `apart` seconds after the previous one. Returns at once when `unless` holds: a
        running look may make it true. Raises the errors of the store.
        """
        async with self._looking:
            if unless():
                return
            if self._looked < asked:
                await asyncio.sleep(self._looked + apart - self._clock.monotonic())
                await self._look_alone()
            elif self._look_failed:
                raise StoreUnavailableError(retry_after=1.0)  # that look would have answered this call

    async def start(self) -> None:
        """Bring the replica up to date for the first time. Raises the errors of the store."""
        await self._look()

    async def run(self) -> None:
        """Follow the log until cancelled. Logs the first of consecutive failures and retries."""
        failing = False
        while True:
            self._wake.clear()
            try:
                head, self._wanted = self._wanted, None
                # A look at every interval proves freshness, even while wanted heads keep arriving.
                due = self._clock.monotonic() - self._looked >= self._poll_interval
                if head is None or due or head.epoch != self._replica.epoch:
                    await self._look()
                elif await self._advance(head):
                    await self._copies.refresh(head)
                else:
                    await self._look()
                if failing:
                    logger.info("the revocation log is being followed again")
                failing = False
            except TokenServiceError as error:
                if not failing:
                    logger.warning("the revocation log can't be followed: %s", error.message)
                failing = True
                self._trouble = error.message
            self._sweep()
            if self._wanted is None:
                await self._sleep()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._poll_interval):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _tell(self, head: LogHead) -> None:
        for listener in self._listeners:
            listener(head)

    def _want(self, head: LogHead) -> None:
        wanted = self._wanted
        if wanted is None or wanted.epoch != head.epoch or wanted.sequence < head.sequence:
            self._wanted = head
        self._wake.set()

    def _prove_fresh(self, began: float) -> None:
        """Record that the replica has every entry acknowledged before `began`."""
        self._fresh_until = max(self._fresh_until, began + self._max_staleness)

    async def _look(self) -> None:
        """Read the head and follow to it, under the lock.

        Two concurrent looks that change over to another log would undo each other.
        """
        async with self._looking:
            await self._look_alone()

    async def _look_alone(self) -> None:
        last, began = self._looked, self._clock.monotonic()
        self._looked = began
        try:
            before, newest = self._replica.cursor, self._replica.newest
            head = await self._read_index.head()
            self._time.bound(head.read_time)  # entries dropped here are in no subscriber's snapshot
            same_log = continues(head, before, newest)
            if same_log and (late := self._known.of_earlier_logs(head)).last:
                # An append to the earlier log was acknowledged after this node had changed over to this one.
                head = await self._write_again(head, late)
                self._known.forget(late)
            if same_log:
                self._tell(head)  # before its entries, so that requests to confirm go with them
                same_log = await self._advance(head)
            if not same_log:
                head = await self._change_over(head)
                self._tell(head)
            await self._copies.refresh(head)
        except TokenServiceError:
            self._looked = self._clock.monotonic()  # waiting calls need not wait for another failure
            self._look_failed = True
            raise
        except asyncio.CancelledError:
            self._looked = last  # the next waiting call looks itself
            raise
        self._look_failed = False
        self._prove_fresh(began)

    async def _advance(self, head: LogHead) -> bool:
        """Follow to a head; return False if its log has another entry at the sequence applied last."""
        replica = self._replica
        revocations = replica.revocations
        while replica.applied < head.sequence:
            try:
                place, entries = await self._read(replica.applied, replica.newest)
            except AnotherLogError:
                return replica.revocations is not revocations
            if replica.revocations is not revocations:
                return True  # the replica changed to another log meanwhile, without these entries
            if any(entry.target is RevocationTarget.CLIENT for entry in entries):
                await self._copies.refresh_clients(None)
                if replica.revocations is not revocations:
                    return True
            if place < head.sequence:  # else a renewal may lie between the head and the page
                self._known.note(replica.epoch, entries)
            # This node's own append may have applied some of them meanwhile.
            if place > replica.applied:
                replica.skip(place)
            replica.apply([entry for entry in entries if entry.sequence > replica.applied])
        return True

    async def _change_over(self, head: LogHead) -> LogHead:
        """Change over to another log, or to the restored state of this log, and return its head.

        The known revocations stay in force until the new log is read completely. Entries of the earlier log that a
        failover lost are written again first.
        """
        before = self._replica.cursor
        report_change(head, before)
        revocations, newest = RevocationSet(names=True), head.newest
        last: deque[Revocation] = deque(maxlen=CAPACITY)
        lost = self._known.of_earlier_logs(head)
        at = head.compacted
        while at < head.sequence:
            at, entries = await self._read(at)
            for entry in entries:
                revocations.apply(entry)
                lost.found(entry)
                at, newest = entry.sequence, entry.revoke_time
            last.extend(entries)
            if at >= head.sequence:
                head = await self._write_again(head, lost)
        if before.epoch:
            self._copies.start_over()
        await self._copies.refresh_clients(None)
        self._known.forget(lost)
        self._known.note(head.epoch, last)
        self._replica.reset(head.epoch, at, revocations, newest=newest)
        return head

    async def _write_again(self, head: LogHead, lost: LostEntries) -> LogHead:
        """Append the entries that a failover lost, and return the head after them."""
        while drafts := lost.take(_RESTORED_AT_ONCE):
            head, _ = await self._log.append(drafts)
            logger.warning("wrote %d revocations again that a failover had lost", len(drafts))
        return head

    async def _read(self, after: int, newest: float | None = None) -> tuple[int, Sequence[Revocation]]:
        """Return the sequence that the next page follows, above `after` if entries were purged, and the page.

        The page is empty only if all entries up to that sequence were purged. Raises `AnotherLogError` if the
        entry `after` exists and its time is not `newest`.
        """
        # Read the entry `after` too, to compare it with the known one. That costs only one more row.
        entries = await self._log.read(after if newest is None else after - 1, _PAGE)
        if entries and entries[0].sequence == after:
            if differ(entries[0].revoke_time, newest):
                raise AnotherLogError
            entries = entries[1:]
        if entries:
            # Stop at a gap: a renewal that keeps earlier entries leaves one.
            return entries[0].sequence - 1, contiguous(entries)
        head = await self._log.head()
        if head.compacted <= after:
            raise StoreUnavailableError("the revocation log ends before its head", retry_after=1.0)
        return head.compacted, ()

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        if now - self._swept > _SWEEP_INTERVAL:
            self._swept = now
            self._replica.revocations.drop_expired(self._time.now())

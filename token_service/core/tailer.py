"""Moves the replica along the log: from its own appends, from hints, and always from SQL.

What makes it correct is the read of the SQL head on an interval and on demand; everything else only makes it faster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.keyring import Keyring
from token_service.core.ports import LogHead, RevocationLog
from token_service.core.read_index import ReadIndex
from token_service.core.replica import Replica
from token_service.errors import ReplicaStaleError, TokenServiceError
from token_service.tokens.revocation import Cursor, Revocation

_PAGE: Final = 2000
_SWEEP_INTERVAL: Final = 30.0

logger = logging.getLogger(__name__)


class Tailer:
    """The one follower of the log in a process."""

    def __init__(
        self,
        log: RevocationLog,
        replica: Replica,
        read_index: ReadIndex,
        keyring: Keyring,
        clock: Clock,
        *,
        poll_interval: float,
        max_staleness: float,
    ) -> None:
        self._log = log
        self._replica = replica
        self._read_index = read_index
        self._keyring = keyring
        self._clock = clock
        self._poll_interval = poll_interval
        self._max_staleness = max_staleness
        self._fresh_until = float("-inf")
        self._wanted: LogHead | None = None
        self._wake = asyncio.Event()
        self._swept = float("-inf")

    @property
    def staleness(self) -> float:
        """Seconds since the replica last was known to have everything; how far a LOCAL answer may be behind."""
        return self._clock.monotonic() - (self._fresh_until - self._max_staleness)

    def require_fresh(self) -> None:
        """Raise `ReplicaStaleError` if the replica may be further behind than is tolerable."""
        if self._clock.monotonic() > self._fresh_until:
            raise ReplicaStaleError(retry_after=1.0)

    def offer(self, head: LogHead, entries: Sequence[Revocation]) -> None:
        """Entries just committed by this node, with a head that includes them."""
        self.hint(head.epoch, entries)
        if head.sequence > self._replica.applied:
            self._want(head)

    def hint(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Entries of the log seen somewhere. Applied if they continue what is here; otherwise a reason to look into SQL."""
        if epoch != self._replica.epoch:
            return
        for number, entry in enumerate(entries):
            if entry.sequence == self._replica.applied + 1:
                self._replica.apply(_contiguous(entries[number:]))
                break
        if entries and entries[-1].sequence > self._replica.applied:
            self._wake.set()

    async def catch_up(self) -> Cursor:
        """Wait until the replica has everything acknowledged before this call; its cursor then. Raises `StoreUnavailableError`."""
        head = await self._read_index.head()
        cursor = Cursor(head.epoch, head.sequence)
        while self._replica.epoch != head.epoch or self._replica.applied < head.sequence:
            self._want(head)
            if self._replica.epoch != head.epoch:
                await asyncio.sleep(0.01)  # another log altogether: the loop resets the replica
                continue
            await self._replica.wait_for(cursor)
        return self._replica.cursor

    async def start(self) -> None:
        """Bring the replica and the keys up to date for the first time. Raises what the store raises."""
        await self._keyring.refresh(self._clock.now())
        await self._advance(await self._read_index.head())

    async def run(self) -> None:
        """Follow the log until cancelled. Failures are logged once and tried again."""
        failing = False
        while True:
            try:
                began = self._clock.monotonic()
                head, self._wanted = self._wanted, None
                if head is None:
                    head = await self._read_index.head()
                    await self._advance(head)
                    self._fresh_until = began + self._max_staleness
                else:
                    await self._advance(head)
                if failing:
                    logger.info("the revocation log is being followed again")
                failing = False
            except TokenServiceError as error:
                if not failing:
                    logger.warning("the revocation log can't be followed: %s", error.message)
                failing = True
            self._sweep()
            if self._wanted is None:
                await self._sleep()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._poll_interval):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _want(self, head: LogHead) -> None:
        self._wanted = head
        self._wake.set()

    async def _advance(self, head: LogHead) -> None:
        replica = self._replica
        if head.epoch != replica.epoch:
            logger.info("following the revocation log %s from entry %d", head.epoch, head.compacted)
            replica.reset(head.epoch, head.compacted)
        while replica.applied < head.sequence:
            entries = await self._log.read(replica.applied, _PAGE)
            # Meanwhile a hint may have brought some of them.
            fresh = [entry for entry in entries if entry.sequence > replica.applied]
            if fresh and fresh[0].sequence > replica.applied + 1:
                replica.skip(fresh[0].sequence - 1)
            elif not entries:
                head = await self._log.head()
                if head.epoch != replica.epoch:
                    return
                if head.compacted > replica.applied:
                    replica.skip(head.compacted)
                continue
            replica.apply(fresh)
        if head.key_revision != self._keyring.revision:
            await self._keyring.refresh(self._clock.now(), revision=head.key_revision)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        if now - self._swept > _SWEEP_INTERVAL:
            self._swept = now
            self._replica.revocations.drop_expired(self._clock.now())


def _contiguous(entries: Sequence[Revocation]) -> Sequence[Revocation]:
    """The longest run without a gap from the first entry on."""
    for number, entry in enumerate(entries):
        if entry.sequence != entries[0].sequence + number:
            return entries[:number]
    return entries

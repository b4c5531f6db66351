"""Keeps the mirror (Redis) in step with the log, and takes its hints. No caller waits for the mirror."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from token_service.core.revocation.log import LogHead, RevocationLog
from token_service.core.revocation.mirror import RevocationMirror
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.errors import TokenServiceError
from token_service.tokens.revocation import Revocation

_MAX_QUEUE: Final = 10_000
_CHECK_INTERVAL: Final = 1.0
_RETRY_INTERVAL: Final = 0.5
_PAGE: Final = 1000

logger = logging.getLogger(__name__)


class Mirroring:
    """Publishes entries that this node appends, rebuilds a mirror that has lost entries, and listens to it."""

    def __init__(
        self,
        mirror: RevocationMirror,
        log: RevocationLog,
        read_index: ReadIndex,
        replica: Replica,
        tailer: Tailer,
    ) -> None:
        self._mirror = mirror
        self._log = log
        self._read_index = read_index
        self._replica = replica
        self._tailer = tailer
        self._queue: deque[tuple[str, Revocation]] = deque(maxlen=_MAX_QUEUE)
        self._wake = asyncio.Event()
        self.is_failing = False
        """Whether the mirror could not be used at the last attempt."""

    @property
    def server(self) -> str:
        """The server of the mirror; empty: none is known."""
        return self._mirror.server

    def publish(self, entries: Sequence[Revocation]) -> None:
        """Queue entries that this node has committed.

        A rebuild restores entries that do not fit into the queue or can't be published.
        """
        epoch = self._replica.epoch
        self._queue.extend((epoch, entry) for entry in entries)
        self._wake.set()

    async def run(self) -> None:
        """Publish, check and listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="mirror-keep")
            tasks.create_task(self._listen(), name="mirror-listen")

    async def _keep(self) -> None:
        while True:
            try:
                await self._flush()
                await self._check()
                if self.is_failing:
                    logger.info("the revocation mirror is back")
                self.is_failing = False
            except TokenServiceError as error:
                if not self.is_failing:
                    logger.warning(
                        "the revocation mirror is away, delivery falls back to SQL: %s", error.message
                    )
                self.is_failing = True
                await asyncio.sleep(_RETRY_INTERVAL)
                continue
            await self._publish_for(_CHECK_INTERVAL)

    async def _publish_for(self, seconds: float) -> None:
        """Publish queued entries as they arrive for `seconds`, or until a publication fails.

        The end interrupts only the wait, never a publication.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            try:
                async with asyncio.timeout_at(end):
                    await self._wake.wait()
            except TimeoutError:
                return
            self._wake.clear()
            try:
                await self._flush()
            except TokenServiceError:
                return

    async def _flush(self) -> None:
        while self._queue:
            epoch = self._replica.epoch
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _PAGE))]
            # The replica may have changed to another log meanwhile, where these sequences name other entries.
            if entries := [entry for log, entry in batch if log == epoch]:
                await self._mirror.publish(epoch, entries)

    async def _check(self) -> None:
        """Rebuild the mirror if it has lost entries; otherwise publish the entries that it lacks."""
        head = await self._read_index.head()
        position = await self._mirror.position(head.epoch)
        if position is None or position < head.compacted:  # purged entries can't fill the gap
            logger.info("rebuilding the revocation mirror up to entry %d", head.sequence)
            await self._mirror.rebuild(head, self._entries(head, head.compacted))
        elif position < head.sequence:
            async for entries in self._entries(head, max(position, head.compacted)):
                await self._mirror.publish(head.epoch, entries)

    async def _entries(self, head: LogHead, at: int) -> AsyncIterator[Sequence[Revocation]]:
        while at < head.sequence:
            page = await self._log.read(at, _PAGE)
            if not page:
                return
            yield page
            at = page[-1].sequence

    async def _listen(self) -> None:
        while True:
            try:
                async for epoch, entries in self._mirror.listen():
                    self._tailer.hint(epoch, entries)
            except TokenServiceError:
                pass  # `_keep` logs it
            await asyncio.sleep(_RETRY_INTERVAL)

"""A node whose tailer runs, beside another node that appends to the same log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Self

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.virtual_time import (
    START,
    LoopClock,
    cancelled,
    settle,
)
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import RevocationDraft
from token_service.tokens.revocation import Revocation, RevocationTarget


def draft(value: str, now: float = START) -> RevocationDraft:
    return draft_of(RevocationTarget.SUBJECT, value, now)


class TwoNodes:
    """A node whose tailer runs, and a log that another node appends to."""

    def __init__(
        self, *, poll_interval: float = 1.0, max_staleness: float = 5.0, stores: MemoryStores | None = None
    ) -> None:
        self.clock = LoopClock()
        self.stores = stores or MemoryStores(self.clock)
        self.log = Intercepted(self.stores.log)
        self.node = Node(
            self.clock,
            stores=self.stores,
            log=self.log,
            poll_interval=poll_interval,
            max_staleness=max_staleness,
        )
        self.replica = self.node.replica
        self.tailer = self.node.tailer
        self.key_lookups = self.node.core.key_lookups
        self.number = 0

    async def __aenter__(self) -> Self:
        await self.node.start()
        self.task = asyncio.create_task(self.tailer.run())
        await settle()
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self.task.done():
            await cancelled(self.task)

    async def elsewhere(self, count: int = 1) -> list[Revocation]:
        """Append entries as another node does and return them."""
        entries: list[Revocation] = []
        for _ in range(count):
            self.number += 1
            entries += (await self.stores.log.append([draft(f"subject-{self.number}")]))[1]
        return entries

    def subjects(self) -> set[str]:
        return {entry.value for entry in self.replica.revocations.entries()}

    async def replace_log(self, entries: int, *, epoch: str | None = None, since: float = START) -> None:
        """Replace the log by one of another epoch, or by a restored backup of the same epoch."""
        state = self.stores.log._state
        other = MemoryStores(self.clock)
        for number in range(entries):
            await other.log.append([draft(f"other-{number + 1}", since + number)])
        state.entries = other.log._state.entries
        state.floors = other.log._state.floors
        state.head = replace(
            state.head,
            epoch=epoch or state.head.epoch,
            sequence=entries,
            compacted=0,
            newest=other.log._state.head.newest,
        )

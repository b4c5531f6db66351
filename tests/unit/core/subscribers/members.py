"""Nodes reduced to the registry of subscribers, the reports and the waits."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted
from tests.unit.core.virtual_time import LoopClock, cancelled, settle
from token_service.clock import Clock
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.waits import Waits
from token_service.tokens.revocation import Cursor

LOG = "log1"


def at(sequence: int, epoch: str = LOG) -> Cursor:
    """A place in the log that members follow."""
    return Cursor(epoch, sequence)


class Member:
    """One of the nodes that exchange reports through `nodes`."""

    def __init__(self, node_id: str, nodes: Any, clock: Clock) -> None:
        self.nodes = nodes
        self.subscribers = Subscribers(clock)
        self.subscribers.start_over(LOG)
        self.reports = Reports(node_id, nodes, self.subscribers, clock)
        self.waits = Waits(self.subscribers, self.reports, clock)


class Cluster:
    """Nodes that exchange reports."""

    def __init__(self, size: int = 2) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.reports = [Intercepted(self.stores.nodes) for _ in range(size)]
        self.nodes = [
            Member(f"node-{number}", store, self.clock) for number, store in enumerate(self.reports)
        ]
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> list[Member]:
        self.tasks = [asyncio.create_task(node.reports.run()) for node in self.nodes]
        await settle()
        return self.nodes

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            if not task.done():
                await cancelled(task)

    async def stop(self, number: int) -> None:
        await cancelled(self.tasks[number])


async def counts(node: Member, sequence: int, timeout: float = 0.06) -> tuple[int, int]:
    return await node.waits.wait_applied(at(sequence), timeout)

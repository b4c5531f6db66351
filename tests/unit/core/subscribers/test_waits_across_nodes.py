"""RevokeToken with `wait` on two running nodes: the counts, the delay, and the number of reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.virtual_time import LoopClock, cancelled, virtual_time
from token_service.core.revocation.commands import RevokeOutcome
from token_service.tokens.revocation import RevocationTarget

POLL = 0.25
EVERYTHING = RevocationTarget.EVERYTHING


class Fleet:
    """Two running nodes, and subscribers that confirm on request, at the node of their stream or at the other
    one.
    """

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.reports = [Intercepted(self.stores.nodes) for _ in range(2)]
        self.nodes = [
            Node(self.clock, stores=self.stores, nodes=reports, node_id=f"node-{number}", poll_interval=POLL)
            for number, reports in enumerate(self.reports)
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Node, Node]]:
        one, two = self.nodes
        for node in self.nodes:
            await node.start()
        tasks = [asyncio.create_task(node.tailer.run()) for node in self.nodes]
        tasks += [asyncio.create_task(node.reports.run()) for node in self.nodes]
        await asyncio.sleep(3)
        yield one, two
        for task in tasks:
            await cancelled(task)

    def connect(self, node: Node, count: int, prefix: str = "v", *, confirm_at: Node | None = None) -> None:
        for number in range(count):
            self._connect(node, f"{prefix}-{number}", confirm_at or node)

    def _connect(self, node: Node, name: str, other: Node) -> None:
        node.subscribers.connect(name)

        def asked() -> None:
            asyncio.get_running_loop().call_later(0.01, answer)

        def answer() -> None:
            other.subscribers.confirm(name, node.replica.applied)

        node.subscribers.on_request(asked)

    def calls(self, name: str) -> int:
        return sum(reports.calls.count(name) for reports in self.reports)


async def timed(
    call: asyncio.Future[RevokeOutcome] | asyncio.Task[RevokeOutcome],
) -> tuple[RevokeOutcome, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await call, loop.time() - began


def revoke(node: Node, subject: str, wait: float = 10) -> asyncio.Task[RevokeOutcome]:
    return asyncio.create_task(node.revoke(target=RevocationTarget.SUBJECT, value=subject, wait=wait))


@virtual_time
async def test_subscribers_of_another_node_confirm_within_one_poll():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        fleet.connect(one, 3, "a")
        fleet.connect(two, 5, "b")
        await asyncio.sleep(5)
        for number in range(5):
            await asyncio.sleep(0.777)
            outcome, took = await timed(revoke(one, f"s-{number}"))
            assert (outcome.connected, outcome.applied) == (8, 8)
            # The other node reads the log, the subscriber confirms, the node reports, and this node reads the reports.
            assert took <= POLL + 0.01 + 0.05 + 0.1 + 0.001


@virtual_time
async def test_confirmations_at_another_node_take_one_report_longer():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        fleet.connect(two, 5, confirm_at=one)
        await asyncio.sleep(5)
        for number in range(5):
            await asyncio.sleep(0.777)
            outcome, took = await timed(revoke(one, f"s-{number}"))
            assert (outcome.connected, outcome.applied) == (5, 5)
            assert took <= POLL + 0.01 + 0.05 + 0.25 + 0.05 + 0.1 + 0.001


@virtual_time
async def test_wait_for_an_earlier_revocation_asks_the_other_nodes():
    """No new entry tells the other node about the wait."""
    fleet = Fleet()
    async with fleet.running() as (one, two):
        tokens = await one.issue()
        assert tokens.session_id is not None
        await one.revoke(target=RevocationTarget.SESSION, value=tokens.session_id)
        await asyncio.sleep(5)
        fleet.connect(two, 5)
        await asyncio.sleep(5)
        again = asyncio.create_task(
            one.revoke(target=RevocationTarget.SESSION, value=tokens.session_id, wait=10)
        )
        outcome, took = await timed(again)
        assert (outcome.connected, outcome.applied) == (5, 5)
        assert took <= 2 * POLL + 0.2


@virtual_time
async def test_two_hundred_waits_share_one_poll_and_return_the_right_counts():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        fleet.connect(one, 10, "a")
        fleet.connect(two, 20, "b")
        two.subscribers.connect("late")
        await asyncio.sleep(5)
        for reports in fleet.reports:
            reports.calls.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = []
        for number in range(200):
            waiting.append(revoke(one if number % 4 else two, f"s-{number}", wait=30))
            await asyncio.sleep(0.005)
        await asyncio.sleep(3)
        assert not any(task.done() for task in waiting)
        two.subscribers.confirm("late", two.replica.applied)
        outcomes = await asyncio.gather(*waiting)
        assert {(outcome.connected, outcome.applied) for outcome in outcomes} == {(31, 31)}
        elapsed = loop.time() - began
        # The reads of the waits and of the exchange of reports depend on nodes, not on calls.
        assert fleet.calls("reports") <= 2 * (2 + elapsed / 0.05)
        assert fleet.calls("report") <= 2 * (2 + elapsed / 0.05)
        assert fleet.calls("request") == 0  # the entries themselves announce the wait
        for reports in fleet.reports:
            reports.calls.clear()
        await asyncio.sleep(20)
        assert fleet.calls("reports") <= 2 * 11  # no wait is left: back to the normal interval


@virtual_time
async def test_waits_for_a_subscriber_that_never_confirms_read_four_times_a_second():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        two.subscribers.connect("deaf")
        await asyncio.sleep(5)
        waiting = [revoke(one, f"s-{number}", wait=9) for number in range(200)]
        await asyncio.sleep(3)
        fleet.reports[0].calls.clear()
        await asyncio.sleep(5)
        assert fleet.reports[0].calls.count("reports") <= 5 / 0.25 + 2
        outcomes = await asyncio.gather(*waiting)
        assert {(outcome.connected, outcome.applied) for outcome in outcomes} == {(1, 0)}


@virtual_time
async def test_silent_subscriber_is_reported_apart_and_delays_no_wait():
    fleet = Fleet()
    loop = asyncio.get_running_loop()
    async with fleet.running() as (one, two):
        fleet.connect(one, 2)
        two.subscribers.connect("deaf")
        await asyncio.sleep(3)
        for _ in range(3):  # a subscriber that may still confirm is waited for
            outcome = await revoke(one, "early", wait=3)
            assert (outcome.connected, outcome.applied, outcome.silent) == (3, 2, 0)
        await asyncio.sleep(2)
        for node in (one, two):
            began = loop.time()
            outcome = await revoke(node, "later", wait=5)
            assert (outcome.connected, outcome.applied, outcome.silent) == (2, 2, 1)
            assert loop.time() - began < 2
        two.subscribers.confirm("deaf", two.replica.applied)
        await asyncio.sleep(1)
        outcome = await revoke(one, "again", wait=3)
        assert (outcome.connected, outcome.applied, outcome.silent) == (3, 2, 0)


@virtual_time
async def test_each_wait_returns_the_counts_of_its_own_revocation():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        for name in ("a", "b", "c"):
            two.subscribers.connect(name)
        await asyncio.sleep(3)
        waiting = [revoke(one, f"s-{number}", wait=5) for number in range(9)]
        await asyncio.sleep(1)
        first = two.replica.applied - 8
        two.subscribers.confirm("a", first + 8)
        two.subscribers.confirm("b", first + 5)
        two.subscribers.confirm("c", first + 2)
        outcomes = sorted(await asyncio.gather(*waiting), key=lambda outcome: outcome.cursor.sequence)
        # Entries of one transaction share a cursor, so each wait is compared with its own cursor.
        for outcome in outcomes:
            places = (first + 8, first + 5, first + 2)
            assert outcome.connected == 3
            assert outcome.applied == sum(place >= outcome.cursor.sequence for place in places)

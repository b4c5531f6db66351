"""RevokeToken with `wait` on several nodes: soon, right, and at a price that does not grow with those who
wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, raising
from tests.unit.core.virtual_time import LoopClock, cancelled, settle, virtual_time
from token_service.core.revocation.commands import RevokeOutcome
from token_service.core.subscribers.registry import MAX_FOREIGN_PER_CALLER, Validators
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import RevocationTarget

POLL = 0.25
EVERYTHING = RevocationTarget.EVERYTHING


class Fleet:
    """Two nodes that run, and validators that confirm as soon as they are asked to, at the node they are
    connected to or at another one.
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
        tasks += [asyncio.create_task(node.validators.run()) for node in self.nodes]
        await asyncio.sleep(3)
        yield one, two
        for task in tasks:
            await cancelled(task)

    def connect(self, node: Node, count: int, prefix: str = "v", *, confirm_at: Node | None = None) -> None:
        for number in range(count):
            self._connect(node, f"{prefix}-{number}", confirm_at or node)

    def _connect(self, node: Node, name: str, other: Node) -> None:
        node.validators.connect(name)

        def asked() -> None:
            asyncio.get_running_loop().call_later(0.01, answer)

        def answer() -> None:
            other.validators.confirm(name, node.replica.applied)

        node.validators.on_request(asked)

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
async def test_validators_of_another_node_are_asked_and_heard_of_soon():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        fleet.connect(one, 3, "a")
        fleet.connect(two, 5, "b")
        await asyncio.sleep(5)
        for number in range(5):
            await asyncio.sleep(0.777)
            outcome, took = await timed(revoke(one, f"s-{number}"))
            assert (outcome.connected, outcome.applied) == (8, 8)
            # The other node's look at the log, the answer, its report, the look at the reports.
            assert took <= POLL + 0.01 + 0.05 + 0.1 + 0.001


@virtual_time
async def test_confirmations_that_reach_the_wrong_node_take_little_longer():
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
async def test_wait_covers_an_earlier_revocation():
    """Nothing is appended that could say that somebody waits."""
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
async def test_two_hundred_waiters_share_few_reads_and_get_right_counts():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        fleet.connect(one, 10, "a")
        fleet.connect(two, 20, "b")
        two.validators.connect("late")
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
        two.validators.confirm("late", two.replica.applied)
        outcomes = await asyncio.gather(*waiting)
        assert {(outcome.connected, outcome.applied) for outcome in outcomes} == {(31, 31)}
        elapsed = loop.time() - began
        # Per node: the looks of those who wait, and what the exchange of reports takes; not per call.
        assert fleet.calls("reports") <= 2 * (2 + elapsed / 0.05)
        assert fleet.calls("report") <= 2 * (2 + elapsed / 0.05)
        assert fleet.calls("request") == 0  # the entries themselves say that somebody waits
        for reports in fleet.reports:
            reports.calls.clear()
        await asyncio.sleep(20)
        assert fleet.calls("reports") <= 2 * 11  # nobody waits any more: back to normal


@virtual_time
async def test_waiting_for_a_silent_subscriber_costs_few_reads():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        two.validators.connect("deaf")
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
        two.validators.connect("deaf")
        await asyncio.sleep(3)
        for _ in range(3):  # as long as it may yet confirm, it is waited for
            outcome = await revoke(one, "early", wait=3)
            assert (outcome.connected, outcome.applied, outcome.silent) == (3, 2, 0)
        await asyncio.sleep(2)
        for node in (one, two):
            began = loop.time()
            outcome = await revoke(node, "later", wait=5)
            assert (outcome.connected, outcome.applied, outcome.silent) == (2, 2, 1)
            assert loop.time() - began < 2
        two.validators.confirm("deaf", two.replica.applied)
        await asyncio.sleep(1)
        outcome = await revoke(one, "again", wait=3)
        assert (outcome.connected, outcome.applied, outcome.silent) == (3, 2, 0)


@virtual_time
async def test_new_subscriber_is_not_silent_for_earlier_requests():
    clock = LoopClock()
    node = Validators("one", MemoryStores(clock).nodes, clock)
    node.connect("deaf")
    assert await node.wait_applied(5, 11) == (0, 0)
    assert node.silent == 1
    node.connect("new")
    assert await node.wait_applied(5, 1) == (1, 0)
    node.confirm("new", 5)
    assert await node.wait_applied(5, 1) == (1, 1)
    node.disconnect("deaf")
    assert node.silent == 0
    assert node.counts(5) == (1, 1)


@virtual_time
async def test_silent_validators_are_forgotten_with_the_log():
    clock = LoopClock()
    node = Validators("one", MemoryStores(clock).nodes, clock)
    node.connect("deaf")
    await node.wait_applied(5, 11)
    assert node.silent == 1
    node.forget_progress()
    assert (node.silent, node.counts(0)) == (0, (1, 1))


@virtual_time
async def test_invented_names_of_one_caller_do_not_displace_other_callers():
    clock = LoopClock()
    stores = MemoryStores(clock)
    here, there = (Validators(name, stores.nodes, clock) for name in ("here", "there"))
    here.connect("honest:v")
    for number in range(5000):
        there.confirm(f"evil:{number}", 5, caller="evil")
    there.confirm("honest:v", 5, caller="honest")
    running = [asyncio.create_task(node.run()) for node in (here, there)]
    assert await here.wait_applied(5, 5) == (1, 1)
    (report,) = [report for report in await stores.nodes.reports(60) if report.node_id == "there"]
    assert len(report.foreign) == MAX_FOREIGN_PER_CALLER + 1
    await asyncio.sleep(15)  # they are forgotten, and with them what was counted
    there.confirm("evil:again", 6, caller="evil")
    await asyncio.sleep(3)
    (report,) = [report for report in await stores.nodes.reports(60) if report.node_id == "there"]
    assert report.foreign == [("evil:again", 6)]
    for task in running:
        await cancelled(task)


@virtual_time
async def test_each_gets_the_numbers_of_its_own_revocation():
    fleet = Fleet()
    async with fleet.running() as (one, two):
        for name in ("a", "b", "c"):
            two.validators.connect(name)
        await asyncio.sleep(3)
        waiting = [revoke(one, f"s-{number}", wait=5) for number in range(9)]
        await asyncio.sleep(1)
        first = two.replica.applied - 8
        two.validators.confirm("a", first + 8)
        two.validators.confirm("b", first + 5)
        two.validators.confirm("c", first + 2)
        outcomes = sorted(await asyncio.gather(*waiting), key=lambda outcome: outcome.cursor.sequence)
        # What was appended in one transaction has one cursor, so each is compared with its own.
        for outcome in outcomes:
            places = (first + 8, first + 5, first + 2)
            assert outcome.connected == 3
            assert outcome.applied == sum(place >= outcome.cursor.sequence for place in places)


@virtual_time
async def test_read_that_began_before_a_wait_does_not_answer_it():
    """It may not know of the validators that were connected when he came."""
    clock = LoopClock()
    stores = MemoryStores(clock)
    reports = Intercepted(stores.nodes)
    one, two = Validators("one", reports, clock), Validators("two", stores.nodes, clock)  # type: ignore[arg-type]

    async def slowly() -> None:
        await asyncio.sleep(0.5)

    reports.after["reports"] = slowly
    early = asyncio.create_task(one.wait_applied(5, 10))
    await asyncio.sleep(0.1)
    two.connect("v")
    await two._report(0.0)
    late = asyncio.create_task(one.wait_applied(5, 3))
    assert await early == (0, 0)
    assert not late.done()
    assert await late == (1, 0)


@virtual_time
@pytest.mark.parametrize("call", ["reports", "request"])
async def test_store_failure_fails_current_waits_and_no_later_ones(call: str):
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    node = Validators("one", reports, clock)  # type: ignore[arg-type]
    node.connect("v")
    fail: Callable[[], object] = raising(StoreUnavailableError())
    waiting = [asyncio.create_task(node.wait_applied(sequence, 10)) for sequence in (5, 6)]
    if call == "reports":
        await asyncio.sleep(1)
    reports.before[call] = fail  # type: ignore[assignment]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 2
    del reports.before[call]
    node.confirm("v", 7)
    assert await node.wait_applied(7, 10) == (1, 1)
    await settle()


@virtual_time
async def test_who_waits_for_less_than_a_look_takes_gets_the_numbers_of_all_nodes():
    """Those of this node alone would say that everybody has confirmed."""
    clock = LoopClock()
    stores = MemoryStores(clock)
    reports = Intercepted(stores.nodes)
    one, two = Validators("one", reports, clock), Validators("two", stores.nodes, clock)  # type: ignore[arg-type]
    one.connect("a")
    one.confirm("a", 5)
    for name in ("b", "c"):
        two.connect(name)
    await two._report(0.0)

    async def slowly() -> None:
        await asyncio.sleep(0.5)

    reports.before["reports"] = slowly
    assert await one.wait_applied(5, 0.1) == (3, 1)
    # Nor is it enough that somebody else had a look, however short a time ago.
    two.connect("d")
    await two._report(0.0)
    assert await one.wait_applied(5, 0.1) == (4, 1)


@virtual_time
async def test_who_waits_for_less_than_a_look_takes_learns_that_it_failed():
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    node = Validators("one", reports, clock)  # type: ignore[arg-type]

    async def slowly() -> None:
        await asyncio.sleep(12)
        raise StoreUnavailableError

    reports.before["reports"] = slowly
    results = await asyncio.gather(*(node.wait_applied(5, wait) for wait in (1, 30)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 2


@virtual_time
async def test_slightly_early_timer_is_not_set_again(monkeypatch: pytest.MonkeyPatch):
    """A loop fires what is due within its resolution, and as long as something is to do no time passes here."""
    clock = LoopClock()
    asked = 0

    def paced(node: Validators, now: float) -> float:
        nonlocal asked
        asked += 1
        if asked > 100:
            node._looked = float("-inf")  # enough of that
        return 0.05

    monkeypatch.setattr(Validators, "_pace", paced)
    nodes = [Validators(name, MemoryStores(clock).nodes, clock) for name in "abcdefgh"]
    waiting = []
    for node in nodes:
        node._looked = 1e-9 - 0.05
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(node.wait_applied(1, 20)))
    assert await asyncio.gather(*waiting) == [(0, 0)] * 8
    assert asked < 100


@virtual_time
async def test_unexpected_error_of_a_read_reaches_all_waiters():
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    reports.before["reports"] = raising(LookupError())
    node = Validators("one", reports, clock)  # type: ignore[arg-type]
    results = await asyncio.gather(*(node.wait_applied(5, wait) for wait in (0, 30)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 2


@virtual_time
async def test_cancelled_waiters_are_removed_while_others_wait():
    clock = LoopClock()
    node = Validators("one", MemoryStores(clock).nodes, clock)
    node.connect("deaf")
    patient = asyncio.create_task(node.wait_applied(5, 60))
    for number in range(150):
        await asyncio.gather(*(node.wait_applied(5 + number, 0.02) for _ in range(2)))
    assert len(node._waiters) < 200
    node.confirm("deaf", 5)
    assert await patient == (1, 1)

"""Two hundred waiting calls of RevokeToken on two nodes with a real database: few statements in total, and the
right numbers for each call.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from sqlalchemy import event

from tests.contract.builders import a_draft
from tests.support.deadline import eventually
from tests.unit.core.node import Node
from token_service.clock import SystemClock
from token_service.stores.sql.engine.engine import WRITES
from token_service.tokens.revocation import RevocationTarget

CALLS = 200


class Statements:
    """Counts the statements of the engine by first word and table, and checks that updates are writes."""

    def __init__(self, stores) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        event.listen(stores._database.engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, connection, cursor, statement, parameters, context, many) -> None:
        words = statement.split()
        table = "nodes" if "nodes" in words else "log_head" if "log_head" in words else words[-1]
        self.counts[words[0], table] += 1
        if words[0] == "UPDATE":
            assert connection.get_execution_options().get(WRITES)


class Fleet:
    def __init__(self, pair) -> None:
        clock = SystemClock()
        self.nodes = [
            Node(clock, stores=stores, node_id=f"node-{n}", poll_interval=0.1, max_staleness=60)
            for n, stores in enumerate(pair)
        ]
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        for node in self.nodes:
            self.tasks += [asyncio.create_task(each.run()) for each in (node.tailer, node.reports)]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    @staticmethod
    def connect(node, name, confirm_at):
        """Connect a subscriber that confirms shortly after a request, once its node has the entries."""

        def ask():
            asyncio.get_running_loop().call_later(0.02, confirm)

        def confirm():
            confirm_at.subscribers.confirm(name, node.replica.applied)
            if node.replica.applied < node.subscribers.requested:
                ask()

        node.subscribers.connect(name)
        node.subscribers.on_request(ask)


async def test_two_hundred_waiting_calls_need_few_statements(sql_backend) -> None:
    async with sql_backend.open() as first, sql_backend.open() as second:
        fleet = Fleet((first, second))
        await fleet.start()
        one, two = fleet.nodes
        try:
            for n in range(10):
                fleet.connect(one, f"here-{n}", one)
                fleet.connect(two, f"there-{n}", two)
            fleet.connect(two, "crossed", one)
            two.subscribers.connect("late")
            expected = 22

            async def known() -> bool:
                return sum(report.connected for report in await first.nodes.reports(60)) == expected

            await eventually(known)
            counted = [Statements(first), Statements(second)]
            loop = asyncio.get_running_loop()
            began = loop.time()
            waiting = [
                asyncio.create_task(
                    one.revoke(target=RevocationTarget.SUBJECT, value=f"subject-{n}", wait=50)
                )
                for n in range(CALLS)
            ]
            await eventually(lambda: two.replica.applied == CALLS and two.subscribers.requested == CALLS)
            assert not any(task.done() for task in waiting)
            two.subscribers.confirm("late", CALLS)
            outcomes = await asyncio.gather(*waiting)
            elapsed = loop.time() - began
            assert {(outcome.connected, outcome.applied) for outcome in outcomes} == {(expected, expected)}
            assert max(outcome.cursor.sequence for outcome in outcomes) == CALLS
            # Statements grow with the elapsed time, not with the number of calls: at most twenty reads a second
            # for the waits and twenty for the exchange of reports.
            for statements in counted:
                reads = statements.counts["SELECT", "nodes"]
                assert 0 < reads <= 2 * (2 + elapsed / 0.05)
                assert statements.counts["INSERT", "nodes"] <= 2 + elapsed / 0.05
        finally:
            await fleet.stop()


async def test_the_head_has_the_highest_awaited_sequence(backend) -> None:
    async with backend.open() as one, backend.open() as two:
        assert (await two.log.head()).awaited == 0
        head, _ = await one.log.append([a_draft(RevocationTarget.TOKEN_ID, n) for n in range(3)])
        assert head.awaited == 0
        head, _ = await one.log.append(
            [
                a_draft(RevocationTarget.TOKEN_ID, "a", awaited=True),
                a_draft(RevocationTarget.TOKEN_ID, "b"),
            ]
        )
        assert (head.sequence, head.awaited) == (5, 4)
        assert (await two.log.head()).awaited == 4
        await one.nodes.request(3)
        assert (await two.log.head()).awaited == 4
        await one.nodes.request(5)
        assert (await two.log.head()).awaited == 5
        await two.log.append([a_draft(RevocationTarget.TOKEN_ID, "c")])
        head = await one.log.head()
        assert (head.sequence, head.awaited) == (6, 5)
        head = await one.log.renew(
            a_draft(RevocationTarget.EVERYTHING), replaces=head.epoch, epoch="another-epoch", sequence=10**6
        )
        assert (await two.log.head()).awaited == 0

"""A log that was replaced, restored or renewed is noticed and read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit.core.two_nodes import TwoNodes, draft
from tests.unit.core.virtual_time import (
    START,
    settle,
    virtual_time,
)
from token_service.errors import ReplicaStaleError
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget


@virtual_time
async def test_another_epoch_is_another_log():
    async with TwoNodes() as nodes:
        await nodes.elsewhere(5)
        await asyncio.sleep(1.01)
        await nodes.replace_log(2, epoch="epoch-two")
        await asyncio.sleep(1.01)
        assert nodes.replica.cursor == Cursor("epoch-two", 2)
        assert nodes.subjects() == {"other-1", "other-2"}


@virtual_time
async def test_restored_log_that_ends_before_the_replica_is_reread(caplog: pytest.LogCaptureFixture):
    async with TwoNodes() as nodes:
        await nodes.elsewhere(5)
        await asyncio.sleep(1.01)
        resets: list[str] = []

        class Follower:
            def applied(self, entries: Sequence[Revocation]) -> None:
                pass

            def was_reset(self) -> None:
                resets.append(str(nodes.replica.applied))

        nodes.replica.listen(Follower())
        await nodes.replace_log(3)
        await asyncio.sleep(1.01)
        assert (nodes.replica.applied, resets) == (3, ["3"])
        assert nodes.subjects() == {"other-1", "other-2", "other-3"}
        (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "run `token-service log renew`" in said.getMessage()
        # A reused sequence names a different entry.
        await nodes.elsewhere(2)
        await asyncio.sleep(1.01)
        assert nodes.subjects() == {"other-1", "other-2", "other-3", "subject-6", "subject-7"}


@virtual_time
@pytest.mark.parametrize("grown_to", [5, 6, 9])
async def test_restored_log_that_has_grown_before_a_look_is_reread(
    grown_to: int, caplog: pytest.LogCaptureFixture
):
    async with TwoNodes() as nodes:
        await nodes.elsewhere(5)
        await asyncio.sleep(1.01)
        await nodes.replace_log(grown_to, since=START + 100)
        await asyncio.sleep(1.01)
        assert nodes.subjects() == {f"other-{number + 1}" for number in range(grown_to)}
        assert "run `token-service log renew`" in caplog.text
        nodes.tailer.require_fresh()
        caplog.clear()
        await nodes.elsewhere(3)
        await asyncio.sleep(1.01)
        assert nodes.replica.applied == grown_to + 3
        assert not caplog.records


@virtual_time
@pytest.mark.parametrize("grown_to", [4, 5, 6])
async def test_own_entry_is_not_appended_after_a_lost_entry(grown_to: int):
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(5)
        await nodes.tailer.catch_up()
        await nodes.replace_log(grown_to, since=START + 100)
        _, entries = await nodes.stores.log.append(
            [draft(f"own-{number}", START + 200) for number in range(2)]
        )
        head = replace(await nodes.stores.log.head(), follows=START + 100 + grown_to - 1)
        nodes.tailer.offer(head, entries)
        await settle()
        others = {f"other-{number + 1}" for number in range(grown_to)}
        assert nodes.subjects() == {*others, "own-0", "own-1"}


@virtual_time
@pytest.mark.parametrize("grown_to", [5, 8])
async def test_strong_read_sees_every_entry_of_a_restored_and_grown_log(grown_to: int):
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(5)
        await nodes.tailer.catch_up()
        await nodes.replace_log(grown_to, since=START + 100)
        async with asyncio.timeout(5):
            await nodes.tailer.catch_up()
        assert nodes.subjects() == {f"other-{number + 1}" for number in range(grown_to)}


@virtual_time
async def test_late_page_of_the_previous_log_is_dropped():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(3)

        async def change_over() -> None:
            del nodes.log.after["read"]
            await nodes.replace_log(2, epoch="epoch-two")
            await nodes.tailer._look()

        nodes.log.after["read"] = change_over
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await asyncio.sleep(0.1)
        assert nodes.replica.applied == 2
        assert nodes.subjects() == {"other-1", "other-2"}


@virtual_time
async def test_previous_log_stays_in_force_while_another_log_is_read():
    async with TwoNodes() as nodes:
        await nodes.elsewhere(3)
        await asyncio.sleep(1.01)
        await nodes.replace_log(3, epoch="epoch-two")
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        nodes.log.before["read"] = wait
        await asyncio.sleep(1.01)
        assert nodes.subjects() == {"subject-1", "subject-2", "subject-3"}
        await asyncio.sleep(10)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
        gate.set()
        await settle()
        assert nodes.subjects() == {"other-1", "other-2", "other-3"}
        await asyncio.sleep(1.01)  # the read that ended now began long ago and does not prove freshness
        nodes.tailer.require_fresh()


@virtual_time
async def test_a_head_older_than_a_hint_is_no_restored_log():
    async with TwoNodes() as nodes:
        resets: list[int] = []

        class Follower:
            def applied(self, entries: Sequence[Revocation]) -> None:
                pass

            def was_reset(self) -> None:
                resets.append(nodes.replica.applied)

        nodes.replica.listen(Follower())

        async def hint_meanwhile() -> None:
            # The head was read. Before it arrives, another node appends, and the hint is faster.
            if nodes.replica.applied < 3:
                nodes.tailer.hint(nodes.replica.epoch, await nodes.elsewhere())

        nodes.log.after["head"] = hint_meanwhile
        await asyncio.sleep(3.01)
        assert nodes.replica.applied >= 3
        assert not resets


@virtual_time
@pytest.mark.parametrize("epoch", [None, "epoch-two"])
async def test_waiting_strong_reads_survive_a_replaced_log(epoch: str | None):
    async with TwoNodes() as nodes:
        await nodes.elsewhere(5)
        await asyncio.sleep(1.01)
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        await nodes.elsewhere(2)
        nodes.log.before["read"] = wait
        waiting = [asyncio.create_task(nodes.tailer.catch_up()) for _ in range(3)]
        await settle()
        await nodes.replace_log(3, epoch=epoch)
        gate.set()
        async with asyncio.timeout(5):
            cursors = await asyncio.gather(*waiting)
        assert {cursor.sequence for cursor in cursors} == {3}
        assert nodes.subjects() == {"other-1", "other-2", "other-3"}
        await asyncio.sleep(5)
        assert nodes.replica.cursor.sequence == 3


@virtual_time
async def test_strong_read_sees_entries_acknowledged_after_a_restore():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(5)
        await nodes.tailer.catch_up()
        await nodes.replace_log(2)
        await nodes.elsewhere(1)  # entry 3, once more
        async with asyncio.timeout(5):
            await nodes.tailer.catch_up()
        assert nodes.subjects() == {"other-1", "other-2", "subject-6"}


@virtual_time
async def test_late_head_of_a_replaced_log_is_ignored():
    async with TwoNodes() as nodes:
        old = await nodes.stores.log.head()
        await nodes.replace_log(1, epoch="epoch-two")
        await asyncio.sleep(1.01)
        nodes.tailer.offer(replace(old, sequence=50), [])
        await asyncio.sleep(0.5)
        assert nodes.replica.cursor == Cursor("epoch-two", 1)

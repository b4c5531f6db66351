"""The mirror follows the log and is rebuilt after a loss. Without the mirror, revocations still succeed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Self

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, sequences
from tests.unit.core.virtual_time import START, LoopClock, cancelled, settle, virtual_time
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Revocation, RevocationTarget


def draft(value: str, *, lives: float = 9000) -> RevocationDraft:
    entry = draft_of(RevocationTarget.SUBJECT, value, START)
    return RevocationDraft(
        target=entry.target, value=value, revoke_time=START, expire_time=START + lives, reason=entry.reason
    )


class FakeMirror:
    """A mirror in memory that tracks its entries without a gap, like the one in Redis, and can be emptied."""

    def __init__(self) -> None:
        self.away = False
        self.delay = 0.0
        self.rebuilds = 0
        self.lose: set[int] = set()
        self.published: list[int] = []
        self.cut_off = 0
        self.listeners: list[asyncio.Queue[tuple[str, Sequence[Revocation]] | None]] = []
        self.empty()

    def empty(self) -> None:
        self.epoch = ""
        self.entries: dict[int, Revocation] = {}
        self.complete: int | None = None

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        try:
            await self._reach()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        self.published += sequences(entries)
        arrived = [entry for entry in entries if entry.sequence not in self.lose]
        self.lose.clear()
        self._add(epoch, arrived)
        for queue in self.listeners:
            queue.put_nowait((epoch, arrived))

    async def position(self, epoch: str) -> int | None:
        await self._reach()
        return self.complete if self.epoch == epoch else None

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        await self._reach()
        self.rebuilds += 1
        async for page in entries:
            await self._reach()
            self._add(head.epoch, page)
        self.epoch = head.epoch
        self.complete = max(head.sequence, self.complete or 0)
        self._add(head.epoch, ())

    async def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        await self._reach()
        queue: asyncio.Queue[tuple[str, Sequence[Revocation]] | None] = asyncio.Queue()
        self.listeners.append(queue)
        try:
            while True:
                heard = await queue.get()
                if heard is None:
                    raise StoreUnavailableError("gone")
                yield heard
        finally:
            self.listeners.remove(queue)

    def go(self) -> None:
        self.away = True
        for queue in self.listeners:
            queue.put_nowait(None)

    async def _reach(self) -> None:
        await asyncio.sleep(self.delay)
        if self.away:
            raise StoreUnavailableError("gone")

    def _add(self, epoch: str, entries: Sequence[Revocation]) -> None:
        self.entries.update({entry.sequence: entry for entry in entries})
        while self.complete is not None and self.complete + 1 in self.entries:
            self.complete += 1

    def values(self) -> set[str]:
        return {entry.value for entry in self.entries.values()}


class Mirrored:
    """A node with a mirror, and another node that appends to the same log."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.log = Intercepted(self.stores.log)
        self.mirror = FakeMirror()
        self.node = Node(
            self.clock,
            stores=self.stores,
            log=self.log,
            mirror=self.mirror,
            poll_interval=60,
            max_staleness=300,
        )
        mirroring = self.node.core.mirroring
        assert mirroring is not None
        self.mirroring = mirroring
        self.number = 0

    async def __aenter__(self) -> Self:
        await self.node.start()
        self.tasks = [asyncio.create_task(self.node.tailer.run()), asyncio.create_task(self.mirroring.run())]
        await settle()
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            if not task.done():
                await cancelled(task)

    async def revoke(self, count: int = 1) -> None:
        for _ in range(count):
            self.number += 1
            await self.node.revoke(target=RevocationTarget.SUBJECT, value=f"subject-{self.number}")

    async def elsewhere(self, count: int = 1, *, lives: float = 9000) -> list[Revocation]:
        entries: list[Revocation] = []
        for _ in range(count):
            self.number += 1
            entries += (await self.stores.log.append([draft(f"subject-{self.number}", lives=lives)]))[1]
        return entries

    def all(self) -> set[str]:
        return {f"subject-{number + 1}" for number in range(self.number)}


# --- Publishing -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_own_entries_are_mirrored_at_once():
    async with Mirrored() as mirrored:
        await mirrored.revoke(3)
        await settle()
        assert mirrored.mirror.values() == mirrored.all()
        assert mirrored.mirror.rebuilds == 1  # the rebuild of the new mirror


@virtual_time
async def test_a_revoke_never_waits_for_the_mirror():
    async with Mirrored() as mirrored:
        mirrored.mirror.delay = 30
        loop = asyncio.get_running_loop()
        began = loop.time()
        await mirrored.revoke(3)
        mirrored.mirror.go()
        await mirrored.revoke(3)
        assert loop.time() == began


@virtual_time
async def test_hints_of_other_nodes_move_the_replica_without_a_poll():
    async with Mirrored() as mirrored:
        entries = await mirrored.elsewhere(3)
        await mirrored.mirror.publish(mirrored.node.replica.epoch, entries)
        await settle()
        assert mirrored.node.replica.applied == 3


@virtual_time
async def test_early_hint_fills_the_gap():
    async with Mirrored() as mirrored:
        entries = await mirrored.elsewhere(3)
        await mirrored.mirror.publish(mirrored.node.replica.epoch, entries[2:])
        await settle()
        assert mirrored.node.replica.applied == 3


@virtual_time
async def test_slow_publication_is_not_cut_off():
    async with Mirrored() as mirrored:
        await asyncio.sleep(2)
        mirrored.mirror.delay = 0.4
        for _ in range(30):
            await mirrored.revoke()
            await asyncio.sleep(0.33)
        await asyncio.sleep(3)
        assert mirrored.mirror.values() == mirrored.all()
        assert (mirrored.mirror.rebuilds, mirrored.mirror.cut_off) == (1, 0)


@virtual_time
async def test_busy_log_causes_no_rebuild():
    async with Mirrored() as mirrored:
        await asyncio.sleep(2)

        async def other_node() -> None:
            while True:
                entries = await mirrored.elsewhere()
                await asyncio.sleep(0.1)  # committed, and on its way to the mirror
                await mirrored.mirror.publish(mirrored.node.replica.epoch, entries)

        other = asyncio.create_task(other_node())
        await asyncio.sleep(20.05)
        await cancelled(other)
        assert mirrored.mirror.rebuilds == 1


# --- Losses -----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_an_emptied_mirror_is_filled_again():
    async with Mirrored() as mirrored:
        await mirrored.revoke(5)
        await asyncio.sleep(2)
        mirrored.mirror.empty()
        await mirrored.revoke()
        await asyncio.sleep(2)
        assert mirrored.mirror.values() == mirrored.all()
        assert mirrored.mirror.complete == 6


@virtual_time
async def test_lost_entry_is_published_again():
    async with Mirrored() as mirrored:
        await asyncio.sleep(2)
        mirrored.mirror.lose = {2}
        await mirrored.revoke(3)
        await asyncio.sleep(2)
        assert mirrored.mirror.values() == mirrored.all()


@virtual_time
async def test_unpublished_entry_of_a_dead_node_is_published():
    async with Mirrored() as mirrored:
        await asyncio.sleep(2)
        await mirrored.elsewhere(2)
        await asyncio.sleep(2)
        assert mirrored.mirror.values() == mirrored.all()


@virtual_time
async def test_mirror_of_another_log_is_rebuilt():
    async with Mirrored() as mirrored:
        await mirrored.revoke(2)
        await asyncio.sleep(2)
        mirrored.mirror.epoch = "another"
        await asyncio.sleep(2)
        assert mirrored.mirror.epoch == mirrored.node.replica.epoch


@virtual_time
async def test_rebuild_contains_only_live_entries():
    async with Mirrored() as mirrored:
        await mirrored.elsewhere(3, lives=10)
        await mirrored.elsewhere(2)
        await mirrored.stores.log.compact(START + 100, 100)
        mirrored.mirror.empty()
        await asyncio.sleep(2)
        assert sequences(list(mirrored.mirror.entries.values())) == [4, 5]
        assert mirrored.mirror.complete == 5


@virtual_time
async def test_fully_compacted_log_gives_an_empty_complete_mirror():
    async with Mirrored() as mirrored:
        await mirrored.elsewhere(3, lives=10)
        await mirrored.stores.log.compact(START + 100, 100)
        mirrored.mirror.empty()
        await asyncio.sleep(2)
        rebuilds = mirrored.mirror.rebuilds
        assert (mirrored.mirror.entries, mirrored.mirror.complete) == ({}, 3)
        await asyncio.sleep(10)
        assert mirrored.mirror.rebuilds == rebuilds


@virtual_time
async def test_compacted_gap_is_skipped():
    async with Mirrored() as mirrored:
        await mirrored.revoke(2)
        await asyncio.sleep(2)
        mirrored.mirror.away = True
        await mirrored.elsewhere(3, lives=10)
        await mirrored.stores.log.compact(START + 100, 100)
        await mirrored.elsewhere(2)
        await mirrored.stores.log.compact(START + 10_000, 5)
        mirrored.mirror.away = False
        await asyncio.sleep(3)
        assert mirrored.mirror.complete == 7
        published = len(mirrored.mirror.published)
        await asyncio.sleep(10)
        assert len(mirrored.mirror.published) == published


@virtual_time
async def test_a_long_log_is_filled_in_page_by_page():
    async with Mirrored() as mirrored:
        await mirrored.elsewhere(2500)
        mirrored.mirror.empty()
        mirrored.log.calls.clear()
        await asyncio.sleep(2)
        assert len(mirrored.mirror.entries) == 2500
        assert mirrored.log.calls.count("read") >= 3


@virtual_time
async def test_entries_beyond_the_queue_are_published_from_the_log():
    async with Mirrored() as mirrored:
        await asyncio.sleep(2)
        mirrored.mirror.delay = 0.3
        entries = await mirrored.elsewhere(12_000)
        mirrored.mirroring.publish(entries)
        await asyncio.sleep(30)
        assert mirrored.mirror.values() == mirrored.all()


# --- Outages -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_mirror_is_complete_after_an_outage(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "token_service.core.revocation.mirroring")
    async with Mirrored() as mirrored:
        await mirrored.revoke(2)
        await asyncio.sleep(2)
        caplog.clear()
        mirrored.mirror.go()
        await mirrored.revoke(3)
        await asyncio.sleep(20)
        await mirrored.revoke()
        assert len(mirrored.mirror.entries) == 2
        mirrored.mirror.away = False
        await asyncio.sleep(3)
        assert mirrored.mirror.values() == mirrored.all()
        levels = [r.levelname for r in caplog.records if "away" in r.message or "back" in r.message]
        assert levels == ["WARNING", "INFO"]
        # Its hints move the replica again.
        entries = await mirrored.elsewhere()
        await mirrored.mirror.publish(mirrored.node.replica.epoch, entries)
        await settle()
        assert mirrored.node.replica.applied == entries[0].sequence


@virtual_time
async def test_node_starts_without_the_mirror():
    mirrored = Mirrored()
    mirrored.mirror.go()
    async with mirrored:
        await mirrored.revoke(2)
        await asyncio.sleep(5)
        assert not any(task.done() for task in mirrored.tasks)
        mirrored.mirror.away = False
        await asyncio.sleep(2)
        assert mirrored.mirror.values() == mirrored.all()


@virtual_time
async def test_mirror_is_unchanged_while_the_log_is_unavailable():
    async with Mirrored() as mirrored:
        await mirrored.revoke(2)
        await asyncio.sleep(2)

        async def fail() -> None:
            raise StoreUnavailableError

        mirrored.log.before["head"] = fail
        await asyncio.sleep(5)
        mirrored.mirror.empty()
        mirrored.log.before.clear()
        await asyncio.sleep(2)
        assert mirrored.mirror.values() == mirrored.all()


@virtual_time
async def test_mirroring_tells_whether_the_mirror_is_away():
    async with Mirrored() as mirrored:
        told = []
        for mirrored.mirror.away in (False, True, False):
            await asyncio.sleep(2)
            told.append(mirrored.mirroring.is_failing)
        assert told == [False, True, False]


@virtual_time
async def test_mirror_that_fails_during_a_rebuild_is_rebuilt_later():
    async with Mirrored() as mirrored:
        await mirrored.elsewhere(2500)
        mirrored.mirror.empty()
        mirrored.mirror.delay = 0.1

        async def go() -> None:
            if mirrored.log.calls.count("read") == 2:
                mirrored.mirror.go()

        mirrored.log.calls.clear()
        mirrored.log.after["read"] = go
        await asyncio.sleep(5)
        assert mirrored.mirror.away
        assert mirrored.mirror.complete is None
        mirrored.log.after.clear()
        mirrored.mirror.away = False
        await asyncio.sleep(5)
        assert mirrored.mirror.values() == mirrored.all()
        assert mirrored.mirror.complete == 2500


@virtual_time
@pytest.mark.parametrize("delay", [0.0, 5.0])
async def test_mirroring_ends_at_once_in_every_state(delay: float):
    mirrored = Mirrored()
    async with mirrored:
        mirrored.mirror.delay = delay
        await mirrored.revoke(2)
        await asyncio.sleep(1.2)
    assert not mirrored.mirror.listeners


@virtual_time
async def test_hints_of_another_log_are_ignored():
    async with Mirrored() as mirrored:
        following = mirrored.node.replica.applied + 1
        foreign = replace((await mirrored.elsewhere())[0], sequence=following, value="somebody else")
        for queue in mirrored.mirror.listeners:
            queue.put_nowait(("anotherlog", [foreign]))
        await settle()
        assert mirrored.node.replica.applied == following - 1


@virtual_time
async def test_queued_entries_are_not_published_to_another_log():
    async with Mirrored() as mirrored:
        mirrored.mirror.go()
        await asyncio.sleep(2)
        for name in ("alice", "bob"):
            await mirrored.node.revoke(target=RevocationTarget.SUBJECT, value=name)
        state = mirrored.stores.log._state
        state.entries.clear()
        state.head = replace(state.head, epoch="epoch-two", sequence=0)
        await mirrored.node.tailer._look()
        mirrored.mirror.away = False
        await asyncio.sleep(5)
        assert (mirrored.mirror.epoch, mirrored.mirror.complete) == ("epoch-two", 0)
        assert not mirrored.mirror.values()

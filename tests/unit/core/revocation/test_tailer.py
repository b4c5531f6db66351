"""The tailer applies every entry of the log in order, even with lost, repeated or invented hints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.core.node import Intercepted, raising, sequences
from tests.unit.core.two_nodes import TwoNodes, draft
from tests.unit.core.virtual_time import (
    START,
    VirtualTimeLoop,
    cancelled,
    settle,
    virtual_time,
)
from token_service.errors import InvalidReason, ReplicaStaleError, StoreUnavailableError
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

# --- Start -----------------------------------------------------------------------------------------


@virtual_time
async def test_started_replica_has_every_entry_and_answers():
    nodes = TwoNodes()
    await nodes.elsewhere(3)
    await nodes.node.start()
    assert nodes.subjects() == {"subject-1", "subject-2", "subject-3"}
    nodes.tailer.require_fresh()
    assert nodes.tailer.staleness == 0


@virtual_time
async def test_replica_answers_nothing_before_the_start():
    nodes = TwoNodes()
    with pytest.raises(ReplicaStaleError):
        nodes.tailer.require_fresh()
    assert nodes.tailer.staleness == float("inf")


@virtual_time
async def test_a_start_without_the_store_fails():
    nodes = TwoNodes()
    nodes.log.before["head"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await nodes.node.start()
    with pytest.raises(ReplicaStaleError):
        nodes.tailer.require_fresh()


# --- Following ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_entries_of_other_nodes_arrive_within_a_poll():
    async with TwoNodes(poll_interval=1) as nodes:
        await nodes.elsewhere(5)
        assert nodes.replica.applied == 0
        await asyncio.sleep(1.01)
        assert nodes.replica.applied == 5


@virtual_time
async def test_a_long_log_is_read_page_by_page():
    nodes = TwoNodes()
    await nodes.elsewhere(4500)
    await nodes.node.start()
    assert nodes.replica.applied == 4500
    assert nodes.log.calls.count("read") == 3


@virtual_time
async def test_own_entries_are_applied_at_once():
    async with TwoNodes() as nodes:
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        assert nodes.subjects() == {"bob"}


@virtual_time
async def test_own_entries_behind_foreign_ones_need_no_poll():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(2)
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await settle()
        assert nodes.subjects() == {"bob", "subject-1", "subject-2"}


@virtual_time
async def test_hint_triggers_a_read_and_is_never_an_entry():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        (real,) = await nodes.elsewhere()
        forged = replace(real, value="nobody")
        nodes.tailer.hint(nodes.replica.epoch, [forged])
        assert nodes.replica.applied == 0
        await settle()
        assert nodes.subjects() == {"subject-1"}


@virtual_time
@pytest.mark.parametrize("arriving", [(1,), (2,), (0, 2), (2, 1), (2, 0), (1, 0, 2), (2, 2)])
async def test_out_of_order_hint_fills_the_gap_from_sql(arriving: tuple[int, ...]):
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        entries = await nodes.elsewhere(3)
        nodes.tailer.hint(nodes.replica.epoch, [entries[number] for number in arriving])
        await settle()
        assert nodes.subjects() == {"subject-1", "subject-2", "subject-3"}


@virtual_time
async def test_hints_known_already_change_nothing():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        entries = await nodes.elsewhere(3)
        nodes.tailer.hint(nodes.replica.epoch, entries)
        await settle()
        version = nodes.replica.revocations.version
        nodes.log.calls.clear()
        nodes.tailer.hint(nodes.replica.epoch, entries)
        nodes.tailer.hint(nodes.replica.epoch, [])
        await settle()
        assert (nodes.replica.revocations.version, nodes.log.calls) == (version, [])


@virtual_time
async def test_a_hint_of_another_log_is_no_entry_of_this_one():
    async with TwoNodes() as nodes:
        nodes.tailer.hint(
            "another-epoch", [Revocation(1, RevocationTarget.EVERYTHING, "", START, START + 9000)]
        )
        assert nodes.replica.applied == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_replica_applies_each_entry_once_in_order_for_any_hints(data: st.DataObject):
    async def scenario() -> None:
        async with TwoNodes(poll_interval=1) as nodes:
            moves: list[int] = []

            class Follower:
                def applied(self, entries: Sequence[Revocation]) -> None:
                    moves.extend(sequences(entries))

                def was_reset(self) -> None:
                    raise AssertionError("nothing was compacted")

            nodes.replica.listen(Follower())
            known: list[Revocation] = []
            for _ in range(data.draw(st.integers(1, 8), "rounds")):
                known += await nodes.elsewhere(data.draw(st.integers(0, 4), "appended"))
                if known:
                    nodes.tailer.hint(
                        nodes.replica.epoch, data.draw(st.lists(st.sampled_from(known), max_size=6), "hints")
                    )
                if data.draw(st.booleans(), "own"):
                    known += (await nodes.node.log.append([draft("own")]))[1]
                for _ in range(data.draw(st.integers(0, 3), "turns")):
                    await asyncio.sleep(0)
            await asyncio.sleep(1.01)
            assert moves == list(range(1, len(known) + 1))

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())


# --- Compaction ---------------------------------------------------------------------------------------------------------


@virtual_time
async def test_replica_behind_the_compaction_resumes_after_it():
    async with TwoNodes() as nodes:
        await nodes.elsewhere(4)
        await nodes.stores.log.compact(START + 10_000, 3)
        await asyncio.sleep(1.01)
        assert (nodes.replica.applied, nodes.subjects()) == (4, {"subject-4"})


@virtual_time
async def test_fully_compacted_log_is_followed():
    async with TwoNodes() as nodes:
        await nodes.elsewhere(4)
        await nodes.stores.log.compact(START + 10_000, 100)
        await asyncio.sleep(1.01)
        assert (nodes.replica.applied, nodes.subjects()) == (4, set())
        await nodes.elsewhere()
        await asyncio.sleep(1.01)
        assert (nodes.replica.applied, nodes.subjects()) == (5, {"subject-5"})


@virtual_time
async def test_compaction_between_two_pages_loses_nothing_that_is_live():
    nodes = TwoNodes()
    await nodes.elsewhere(4500)

    async def compact() -> None:
        if nodes.log.calls.count("read") == 2:
            await nodes.stores.log.compact(START + 10_000, 3000)

    nodes.log.before["read"] = compact
    await nodes.node.start()
    assert nodes.replica.applied == 4500
    assert {f"subject-{number}" for number in range(3001, 4501)} <= nodes.subjects()


# --- Strong reads -------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_strong_read_waits_for_no_poll():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(3)
        async with asyncio.timeout(1):
            cursor = await nodes.tailer.catch_up()
        assert cursor.sequence == 3
        assert nodes.replica.applied == 3


@virtual_time
async def test_strong_reads_of_different_heads_all_end_without_a_poll():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        tasks = []
        for _ in range(20):
            await nodes.elsewhere(3)
            tasks.append(asyncio.create_task(nodes.tailer.catch_up()))
            await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await asyncio.gather(*tasks)


@virtual_time
async def test_late_head_does_not_lower_a_higher_head(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("token_service.core.revocation.tailer._PAGE", 2)
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await nodes.elsewhere(5)
        low = await nodes.stores.log.head()
        await nodes.elsewhere(5)
        nodes.tailer.offer(await nodes.stores.log.head(), [])
        nodes.tailer.offer(low, [])
        await settle()
        assert nodes.replica.applied == 10


@virtual_time
async def test_a_strong_read_without_the_store_fails():
    async with TwoNodes() as nodes:
        nodes.log.before["head"] = raising(StoreUnavailableError())
        with pytest.raises(StoreUnavailableError):
            await nodes.tailer.catch_up()


@virtual_time
async def test_strong_read_proves_freshness():
    async with TwoNodes(poll_interval=60, max_staleness=2) as nodes:
        await asyncio.sleep(10)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
        await nodes.tailer.catch_up()
        nodes.tailer.require_fresh()
        await asyncio.sleep(1.99)
        nodes.tailer.require_fresh()
        await asyncio.sleep(0.02)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()


# --- Failure and staleness ----------------------------------------------------------------------------------------------


@virtual_time
async def test_staleness_grows_while_the_store_fails_and_ends_when_it_is_back(caplog):
    async with TwoNodes(poll_interval=1, max_staleness=5) as nodes:
        nodes.log.before["head"] = raising(StoreUnavailableError())
        await asyncio.sleep(4.9)
        nodes.tailer.require_fresh()
        assert nodes.tailer.staleness == pytest.approx(4.9)
        await asyncio.sleep(1.2)
        with pytest.raises(ReplicaStaleError) as stale:
            nodes.tailer.require_fresh()
        assert stale.value.retry_after
        await nodes.elsewhere(2)
        del nodes.log.before["head"]
        await asyncio.sleep(1.01)
        nodes.tailer.require_fresh()
        assert nodes.replica.applied == 2
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1


@virtual_time
async def test_slow_look_proves_freshness_only_for_its_start():
    async with TwoNodes(poll_interval=1, max_staleness=5) as nodes:

        async def slowly() -> None:
            await asyncio.sleep(3)

        nodes.log.after["head"] = slowly
        await asyncio.sleep(4.5)  # a look began after one second and ended after four
        assert nodes.tailer.staleness == pytest.approx(3.5)
        await asyncio.sleep(1.4)
        nodes.tailer.require_fresh()
        await asyncio.sleep(0.2)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
    await asyncio.sleep(3)  # the read under way


@virtual_time
async def test_the_head_alone_proves_nothing_if_the_entries_cant_be_read():
    async with TwoNodes(poll_interval=1, max_staleness=5) as nodes:
        await nodes.elsewhere(1)
        nodes.log.before["read"] = raising(StoreUnavailableError())
        await asyncio.sleep(6)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()


@virtual_time
async def test_unreadable_keys_end_freshness():
    async with TwoNodes(poll_interval=1, max_staleness=5) as nodes:
        stored = await nodes.stores.keys.load()
        await nodes.stores.keys.save(stored.revision, stored.signing_keys, stored.mac_keys)
        working = nodes.node.keyring._store
        broken = Intercepted(working)
        broken.before["load"] = raising(StoreUnavailableError())
        nodes.node.keyring._store = broken
        await asyncio.sleep(6)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
        nodes.node.keyring._store = working
        await asyncio.sleep(1.01)
        nodes.tailer.require_fresh()
        assert nodes.node.keyring.revision == stored.revision + 1


@virtual_time
async def test_log_that_ends_before_its_head_is_not_fresh_and_is_read_rarely():
    async with TwoNodes(poll_interval=1, max_staleness=5) as nodes:
        nodes.stores.log._state.head = replace(nodes.stores.log._state.head, sequence=9)
        nodes.log.calls.clear()
        await asyncio.sleep(10)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
        assert len(nodes.log.calls) < 50


@virtual_time
async def test_a_node_that_is_always_busy_stays_fresh():
    async with TwoNodes(poll_interval=1, max_staleness=3) as nodes:
        for _ in range(500):
            await nodes.elsewhere()
            # The own entry never follows the applied ones, so each append asks the tailer for a head.
            await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
            await asyncio.sleep(0.02)
            nodes.tailer.require_fresh()


@virtual_time
async def test_a_quiet_node_reads_the_head_once_in_an_interval():
    async with TwoNodes(poll_interval=1) as nodes:
        nodes.log.calls.clear()
        await asyncio.sleep(10.5)
        assert nodes.log.calls.count("head") == 10
        nodes.log.calls.clear()
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await settle()
        assert nodes.log.calls == ["append"]


@virtual_time
async def test_expired_entries_are_dropped_while_following():
    async with TwoNodes() as nodes:
        await nodes.elsewhere(3)
        await asyncio.sleep(1.01)
        assert len(nodes.replica.revocations) == 3
        await asyncio.sleep(3600 + 300 + 60)
        assert len(nodes.replica.revocations) == 0


@virtual_time
async def test_cancelled_tailer_leaves_no_task():
    nodes = TwoNodes()
    async with nodes:
        task = nodes.task
        waiting = asyncio.create_task(nodes.replica.wait_for(Cursor(nodes.replica.epoch, 99)))
        await settle()
        await cancelled(task)
        await cancelled(waiting)
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    nodes.log.before["head"] = wait
    task = asyncio.create_task(nodes.tailer.run())
    await settle()
    await cancelled(task)
    gate.set()


# --- Keys ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_new_keys_arrive_within_a_poll():
    async with TwoNodes() as nodes:
        keys = nodes.stores.keys
        stored = await keys.load()
        assert await keys.save(stored.revision, (), (replace(stored.mac_keys[0]),))
        await asyncio.sleep(1.01)
        assert nodes.node.keyring.revision == stored.revision + 1


@virtual_time
async def test_own_append_loads_keys_changed_by_other_nodes():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        keys = nodes.stores.keys
        stored = await keys.load()
        assert await keys.save(stored.revision, (), (replace(stored.mac_keys[0]),))
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await settle()
        assert nodes.node.keyring.revision == stored.revision + 1


@virtual_time
async def test_node_stops_signing_with_a_key_it_revoked():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        key_id = nodes.node.keyring.signer().key_id
        await nodes.node.revoke(target=RevocationTarget.KEY, value=key_id)
        await settle()
        assert nodes.node.keyring.signer().key_id != key_id
        assert not nodes.node.keyring.key_set.get(key_id)


@virtual_time
async def test_an_unchanged_key_revision_loads_nothing():
    async with TwoNodes() as nodes:
        counted = Intercepted(nodes.stores.keys)
        nodes.node.keyring._store = counted
        await nodes.elsewhere(2)
        await asyncio.sleep(5)
        assert not counted.calls


@virtual_time
async def test_concurrent_looks_never_move_the_replica_back():
    async with TwoNodes(poll_interval=1) as nodes:
        await nodes.elsewhere(5)
        await asyncio.sleep(5)
        await nodes.replace_log(3, epoch="epoch-two")
        places: list[int] = []

        class Follower:
            def applied(self, entries: Sequence[Revocation]) -> None:
                places.append(nodes.replica.applied)

            def was_reset(self) -> None:
                places.append(nodes.replica.applied)

        nodes.replica.listen(Follower())
        # The first read ends last, so its result is old by then.
        delays = iter([0.8, 0.0])

        async def slowly() -> None:
            await asyncio.sleep(next(delays, 0.0))

        nodes.log.after["read"] = slowly
        asking = [asyncio.create_task(nodes.key_lookups.look())]
        await asyncio.sleep(0.1)
        asking.append(asyncio.create_task(nodes.key_lookups.look()))
        await asyncio.sleep(0.1)
        await nodes.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await asyncio.gather(*asking)
        await asyncio.sleep(1.01)
        assert places == sorted(places)
        assert nodes.subjects() == {"bob", "other-1", "other-2", "other-3"}


@virtual_time
@pytest.mark.parametrize("epoch", [None, "epoch-two"])
async def test_keys_of_another_log_are_taken_at_any_revision(epoch: str | None):
    async with TwoNodes(poll_interval=1) as nodes:
        await nodes.elsewhere(3)
        await asyncio.sleep(1.01)
        state = nodes.stores.keys._state
        backup, revision = dict(state.signing_keys), state.head.key_revision
        first = nodes.node.keyring.signer().key_id
        await nodes.node.revoke(target=RevocationTarget.KEY, value=first)
        await asyncio.sleep(1.01)
        assert nodes.node.keyring.signer().key_id != first
        # The backup does not have the key that signs now.
        await nodes.replace_log(1, epoch=epoch)
        state.signing_keys = backup
        state.head = replace(state.head, key_revision=revision)
        broken = Intercepted(nodes.stores.keys)
        broken.before["load"] = raising(StoreUnavailableError())
        nodes.node.keyring._store = broken
        await asyncio.sleep(1.01)
        assert nodes.node.keyring.signer().key_id != first
        nodes.node.keyring._store = nodes.stores.keys
        await asyncio.sleep(1.01)
        assert nodes.node.keyring.signer().key_id == first
        assert nodes.node.keyring.revision == revision


@virtual_time
async def test_a_clock_that_jumps_ahead_and_back_forgets_no_revocation():
    async with TwoNodes() as nodes:
        tokens = await nodes.node.issue()
        await nodes.node.revoke(token=tokens.access_token)
        nodes.clock.skew = 24 * 3600.0
        await asyncio.sleep(60)
        nodes.clock.skew = 0.0
        assert (await nodes.node.validate(tokens.access_token)).reason is InvalidReason.REVOKED

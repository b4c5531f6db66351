"""Nodes write the entries again that a failover lost, before they prove anything about the renewed log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest

from tests.unit.core.node import SYSTEM, RecordingAudit, raising
from tests.unit.core.two_nodes import TwoNodes, draft
from tests.unit.core.virtual_time import START, settle, virtual_time
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.known_entries import KnownEntries
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.core.revocation.log_renewal import renew_log
from token_service.errors import ReplicaStaleError, StoreUnavailableError
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

TOKEN, SESSION, SUBJECT, CLIENT, KEY, EVERYTHING = RevocationTarget
LOST = str(UUID(int=7))


async def fail_over(nodes: TwoNodes, keeping: int, *, everything: bool = False) -> None:
    """Lose the entries above a sequence, and renew the log as another node or an operator does."""
    state = nodes.stores.log._state
    state.entries = [entry for entry in state.entries if entry.sequence <= keeping]
    state.floors = {key: floor for key, floor in state.floors.items() if floor.sequence <= keeping}
    newest = state.entries[-1].revoke_time if state.entries else None
    state.head = replace(state.head, sequence=keeping, newest=newest)
    await renew_log(
        nodes.stores.log,
        await nodes.stores.log.head(),
        nodes.clock.now(),
        Random(2).randbytes,
        RecordingAudit(),
        SYSTEM,
        keep=not everything,
    )


async def append(nodes: TwoNodes, *drafts: RevocationDraft) -> None:
    """Append as another node does, and let this node apply the entries."""
    await nodes.stores.log.append(drafts)
    await asyncio.sleep(1.01)


def in_log(nodes: TwoNodes) -> list[tuple[RevocationTarget, str]]:
    """The entries without those of renewals."""
    state = nodes.stores.log._state
    return [
        (entry.target, entry.value)
        for entry in state.entries
        if not state.comments[entry.sequence].startswith("the log was renewed")
    ]


@virtual_time
async def test_lost_entries_are_written_again_and_known_ones_are_not() -> None:
    async with TwoNodes() as nodes:
        await append(nodes, draft("kept"))
        await append(nodes, draft("lost"), draft_of(TOKEN, "lost-token", START))
        await fail_over(nodes, 1)
        await asyncio.sleep(1.01)
        assert in_log(nodes) == [(SUBJECT, "kept"), (SUBJECT, "lost"), (TOKEN, "lost-token")]
        assert nodes.subjects() >= {"kept", "lost"}
        assert nodes.replica.revocations.has_token_id("lost-token", None)
        assert nodes.replica.cursor.epoch == nodes.stores.log._state.head.epoch
        nodes.tailer.require_fresh()
        await asyncio.sleep(5)
        assert len(in_log(nodes)) == 3


@virtual_time
async def test_own_entry_that_this_node_has_not_applied_is_written_again() -> None:
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        head, entries = await nodes.stores.log.append([draft("bob"), draft("alice")])
        nodes.tailer.offer(head, entries[1:])  # the entry before it has not arrived
        await fail_over(nodes, 0)
        await settle()
        await asyncio.sleep(61)
        assert in_log(nodes) == [(SUBJECT, "alice")]


@virtual_time
async def test_entry_acknowledged_by_the_former_primary_after_the_change_over_is_written_again() -> None:
    async with TwoNodes() as nodes:
        before, entries = await nodes.stores.log.append([draft("bob")])
        await fail_over(nodes, 0)
        await asyncio.sleep(1.01)
        assert in_log(nodes) == []
        nodes.tailer.offer(before, entries)
        await settle()
        assert in_log(nodes) == [(SUBJECT, "bob")]
        await asyncio.sleep(3)
        assert in_log(nodes) == [(SUBJECT, "bob")]


@virtual_time
async def test_nothing_is_proved_until_the_lost_entries_are_written() -> None:
    async with TwoNodes(max_staleness=2) as nodes:
        await append(nodes, draft("bob"))
        await fail_over(nodes, 0)
        nodes.log.before["append"] = raising(StoreUnavailableError())
        await asyncio.sleep(5)
        with pytest.raises(ReplicaStaleError):
            nodes.tailer.require_fresh()
        assert nodes.subjects() == {"bob"}  # the entries of the earlier log stay in force
        del nodes.log.before["append"]
        await asyncio.sleep(1.01)
        nodes.tailer.require_fresh()
        assert in_log(nodes) == [(SUBJECT, "bob")]


@virtual_time
async def test_lost_response_of_the_write_writes_nothing_twice() -> None:
    async with TwoNodes() as nodes:
        await append(nodes, draft("bob"))
        await fail_over(nodes, 0)
        nodes.log.after["append"] = raising(StoreUnavailableError())
        await asyncio.sleep(1.01)
        del nodes.log.after["append"]
        await asyncio.sleep(2)
        assert in_log(nodes) == [(SUBJECT, "bob")]
        nodes.tailer.require_fresh()


@virtual_time
async def test_lost_revocation_of_an_unknown_session_or_key_is_written_again() -> None:
    async with TwoNodes() as nodes:
        head = await nodes.stores.log.head()
        entries = [
            Revocation(1, SESSION, LOST, START, START + 9000),
            Revocation(2, KEY, "stolen", START, START + 9000, RevocationReason.COMPROMISED),
        ]
        nodes.tailer.offer(replace(head, sequence=2), entries)
        await fail_over(nodes, 0)
        await asyncio.sleep(1.01)
        assert in_log(nodes) == [(SESSION, LOST), (KEY, "stolen")]
        assert nodes.replica.revocations.has_session(LOST)
        assert nodes.replica.revocations.has_key("stolen")


@virtual_time
async def test_after_a_renewal_that_revokes_everything_only_lost_keys_are_written_again() -> None:
    async with TwoNodes() as nodes:
        head = await nodes.stores.log.head()
        nodes.tailer.offer(
            replace(head, sequence=2),
            [
                Revocation(1, SUBJECT, "bob", START, START + 9000),
                Revocation(2, KEY, "stolen", START, START + 9000),
            ],
        )
        await fail_over(nodes, 0, everything=True)
        await asyncio.sleep(1.01)
        assert in_log(nodes) == [(KEY, "stolen")]


@virtual_time
async def test_a_long_loss_is_written_in_parts() -> None:
    async with TwoNodes() as nodes:
        await append(nodes, *(draft(f"subject-{number}") for number in range(1201)))
        await fail_over(nodes, 1)
        nodes.log.calls.clear()
        await asyncio.sleep(1.01)
        assert nodes.log.calls.count("append") == 3
        assert len(in_log(nodes)) == 1201
        assert len(nodes.subjects()) == 1201


@virtual_time
async def test_two_nodes_contribute_what_each_alone_knows() -> None:
    async with TwoNodes() as nodes, TwoNodes(stores=nodes.stores) as other:
        await append(nodes, draft("kept"))
        head, entries = await nodes.stores.log.append([draft("one"), draft("two")])
        nodes.tailer.offer(head, entries[:1])
        other.tailer.offer(head, entries[1:])
        await fail_over(nodes, 1)
        await asyncio.sleep(3)
        assert set(in_log(nodes)) == {(SUBJECT, "kept"), (SUBJECT, "one"), (SUBJECT, "two")}
        assert nodes.subjects() == other.subjects() >= {"one", "two"}


def entry(sequence: int, *, expire_time: float = START + 9000) -> Revocation:
    return Revocation(sequence, SUBJECT, f"subject-{sequence}", START, expire_time)


def known(*entries: Revocation, capacity: int = 100) -> KnownEntries:
    made = KnownEntries(capacity)
    made.note("first-log", entries)
    return made


RENEWED = LogHead("second-log", 1_000_000, 0, 1, read_time=START)


def values(entries: KnownEntries, head: LogHead) -> list[str]:
    return [draft.value for draft in entries.of_earlier_logs(head).take(100)]


def test_the_oldest_entries_are_forgotten_above_the_capacity() -> None:
    assert values(known(entry(1), entry(2), entry(3), capacity=2), RENEWED) == ["subject-2", "subject-3"]


def test_expired_and_purged_entries_are_not_lost() -> None:
    entries = known(entry(1), entry(2, expire_time=START), entry(3))
    assert values(entries, replace(RENEWED, compacted=1)) == ["subject-3"]


def test_a_log_that_ends_below_the_known_entries_does_not_continue_them() -> None:
    entries = known(entry(5))
    assert values(entries, replace(RENEWED, sequence=5)) == []
    assert values(entries, RENEWED) == ["subject-5"]


def test_forgetting_keeps_entries_noted_meanwhile() -> None:
    entries = known(entry(1))
    lost = entries.of_earlier_logs(RENEWED)
    entries.note("first-log", [entry(2)])
    entries.forget(lost)
    assert values(entries, RENEWED) == ["subject-2"]


def test_a_restored_floor_is_kept_for_the_tokens_issued_since() -> None:
    (made,) = known(entry(1, expire_time=START + 1)).of_earlier_logs(RENEWED).take(1)
    assert (made.restored, made.revoke_time) == (True, START)
    assert made.expires(START + 100) > START + 100

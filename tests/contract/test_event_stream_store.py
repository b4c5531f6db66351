"""The contract of `EventStreamStore`."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from tests.contract.builders import NOW
from tests.contract.test_audit_store import an_event
from token_service.core.event_streams.stream import (
    Backlog,
    DeliveryMethod,
    EventStream,
    StreamStatus,
    WaitingEvent,
)
from token_service.core.events.event import Action, Target


def a_stream(stream_id="s-1", client_id="receiver", **members):
    members = {"method": DeliveryMethod.POLL, "create_time": NOW, **members}
    return EventStream(stream_id=stream_id, client_id=client_id, **members)


def a_waiting(number, **members):
    members = {"event_type": "urn:type", "chain_id": "chain", "position": number, **members}
    return WaitingEvent(token_id=f"jti-{number}", create_time=NOW + number, **members)


def a_change(action=Action.EVENT_STREAM_CREATED):
    return an_event(1, action=action, target=Target("event_stream", "s-1"))


async def ids(stores, stream_id="s-1", **conditions):
    return [each.token_id for each in await stores.event_streams.waiting(stream_id, 100, **conditions)]


async def actions(stores):
    while await stores.events.sequence(10):
        pass
    return [event.type for event in await stores.events.read(0, 100)]


async def test_stream_is_stored_with_its_event_and_begins_with_the_next_one(stores):
    await stores.audit.append([a_change(), a_change()])
    await stores.events.sequence(10)
    stream = a_stream(
        method=DeliveryMethod.PUSH,
        endpoint_url="https://receiver.example/events",
        authorization=b"wrapped",
        wrapping_key_id="kek-1",
        events_requested=("urn:a", "urn:b"),
        description="größer",
        reason="because",
    )
    assert await stores.event_streams.create(stream, 2, [a_change()])
    assert await stores.event_streams.get("s-1") == stream
    assert await stores.event_streams.get("s-2") is None
    assert await stores.events.position(stream.consumer) == 2
    assert await actions(stores) == ["event_stream.created"] * 3


async def test_concurrent_calls_keep_the_limit_of_a_client(pair):
    made = await asyncio.gather(
        *(pair[number % 2].event_streams.create(a_stream(f"s-{number}"), 3, []) for number in range(10))
    )
    assert sum(made) == 3
    assert len(await pair[0].event_streams.list("receiver")) == 3
    assert await pair[1].event_streams.create(a_stream("t-1", "other"), 3, [])
    first = (await pair[0].event_streams.list("receiver"))[0]
    assert await pair[0].event_streams.delete(first.stream_id, [])
    assert await pair[1].event_streams.create(a_stream("s-99"), 3, [])
    assert not await pair[1].event_streams.create(a_stream("s-98"), 3, [])


async def test_list_returns_the_oldest_first(stores):
    for stream_id, client_id, later in (("s-2", "a", 5), ("s-1", "a", 5), ("s-3", "b", 1)):
        await stores.event_streams.create(a_stream(stream_id, client_id, create_time=NOW + later), 9, [])
    assert [each.stream_id for each in await stores.event_streams.list()] == ["s-3", "s-1", "s-2"]
    assert [each.stream_id for each in await stores.event_streams.list("a")] == ["s-1", "s-2"]


async def test_save_replaces_only_the_known_revision(pair):
    one, other = pair
    await one.event_streams.create(a_stream(), 9, [])
    paused = a_stream(status=StreamStatus.PAUSED, reason="maintenance", revision=2)
    assert await one.event_streams.save(
        paused, [a_change(Action.EVENT_STREAM_UPDATED)], waiting=[a_waiting(1)]
    )
    stale = a_stream(description="stale", revision=2)
    assert not await other.event_streams.save(stale, [a_change()], waiting=[a_waiting(2)], drop=True)
    assert await other.event_streams.get("s-1") == paused
    assert await ids(other) == ["jti-1"]
    assert await actions(other) == ["event_stream.updated"]
    assert not await other.event_streams.save(a_stream("s-9", revision=2), [])


async def test_drop_and_restart_give_up_what_waits_and_go_to_the_end_of_the_log(stores):
    stream = a_stream()
    for number, change in enumerate(({"drop": True}, {"restart": True}), 2):
        if number == 2:
            await stores.event_streams.create(stream, 9, [])
        place = await stores.events.position(stream.consumer)
        await stores.event_streams.enqueue(stream, place, place, [a_waiting(1), a_waiting(2)])
        await stores.audit.append([a_change()])
        await stores.events.sequence(10)
        assert await stores.event_streams.save(
            structs.replace(stream, revision=number), [], waiting=[a_waiting(3)], **change
        )
        assert await ids(stores) == ["jti-3"]
        assert await stores.events.position(stream.consumer) == place + 1


async def test_deleted_stream_leaves_nothing(stores):
    stream = a_stream()
    await stores.event_streams.create(stream, 9, [])
    await stores.event_streams.enqueue(stream, 0, 0, [a_waiting(1)])
    await stores.event_streams.remove_subject("s-1", "alice", 9)
    assert await stores.event_streams.delete("s-1", [a_change(Action.EVENT_STREAM_DELETED)])
    assert not await stores.event_streams.delete("s-1", [a_change(Action.EVENT_STREAM_DELETED)])
    assert await actions(stores) == ["event_stream.deleted"]
    assert await stores.events.positions() == {}
    await stores.event_streams.create(stream, 9, [])
    assert await ids(stores) == []
    assert not await stores.event_streams.removed_among("s-1", ["alice"])


async def test_place_and_waiting_events_move_together(pair):
    one, other = pair
    stream = a_stream()
    await one.event_streams.create(stream, 9, [])
    assert await one.event_streams.enqueue(stream, 0, 5, [a_waiting(1), a_waiting(2)])
    assert not await other.event_streams.enqueue(stream, 0, 6, [a_waiting(3)])
    assert await other.events.position(stream.consumer) == 5
    assert await ids(other) == ["jti-1", "jti-2"]
    assert await other.event_streams.enqueue(stream, 5, 7, [a_waiting(2), a_waiting(3)])
    assert await other.event_streams.waiting("s-1", 100) == [a_waiting(1), a_waiting(2), a_waiting(3)]
    assert [each.token_id for each in await one.event_streams.waiting("s-1", 2)] == ["jti-1", "jti-2"]
    assert await one.event_streams.count_waiting("s-1") == 3
    assert set(await one.event_streams.streams_waiting()) == {"s-1"}
    assert await one.event_streams.finish("s-1", ["jti-2", "jti-9"]) == 1
    assert await one.event_streams.finish("s-2", ["jti-1"]) == 0
    assert await ids(other) == ["jti-1", "jti-3"]


async def test_waiting_events_are_selected_by_type(stores):
    stream = a_stream()
    await stores.event_streams.create(stream, 9, [])
    update = a_waiting(2, event_type="urn:update", chain_id="", position=0, detail='{"a":1}')
    await stores.event_streams.enqueue(stream, 0, 0, [a_waiting(1), update])
    assert await stores.event_streams.waiting("s-1", 9, ["urn:update"]) == [update]


async def test_verification_waits_once_in_an_interval(pair):
    one, other = pair
    await one.event_streams.create(a_stream(), 9, [])
    asked = await asyncio.gather(
        *(stores.event_streams.verify("s-1", a_waiting(n), NOW - 60) for n, stores in enumerate(pair))
    )
    assert sorted(asked) == [False, True]
    assert await one.event_streams.count_waiting("s-1") == 1
    assert not await other.event_streams.verify("s-1", a_waiting(30), NOW - 30)
    assert await other.event_streams.verify("s-1", a_waiting(61), NOW + 1)
    assert not await other.event_streams.verify("s-2", a_waiting(1), NOW)


async def test_removed_subjects_are_bounded_and_can_come_back(stores):
    streams = stores.event_streams
    await streams.create(a_stream(), 9, [])
    assert await streams.remove_subject("s-1", "alice", 2)
    assert await streams.remove_subject("s-1", "bob", 2)
    assert not await streams.remove_subject("s-1", "carol", 2)
    assert await streams.remove_subject("s-1", "bob", 2)
    assert await streams.removed_among("s-1", ["carol", "bob"])
    assert not await streams.removed_among("s-1", ["carol"])
    assert not await streams.removed_among("s-2", ["bob"])
    await streams.add_subject("s-1", "bob")
    assert not await streams.removed_among("s-1", ["bob"])


async def test_backlog_counts_enabled_streams(stores):
    streams = stores.event_streams
    assert await streams.backlog() == Backlog(0, None)
    for number, status in enumerate((StreamStatus.ENABLED, StreamStatus.PAUSED, StreamStatus.ENABLED), 1):
        stream = a_stream(f"s-{number}", status=status)
        await streams.create(stream, 9, [])
        await streams.enqueue(stream, 0, 0, [a_waiting(number)])
    assert await streams.backlog() == Backlog(2, NOW + 1)


@pytest.mark.parametrize(
    "damage", ["method = 'pigeon'", "status = 'asleep'", "events_requested = '{'", "events_requested = '[7]'"]
)
async def test_damaged_row_is_a_disabled_stream_and_leaves_the_others_readable(sql_backend, damage, caplog):
    async with sql_backend.open() as stores:
        streams = [a_stream(f"s-{number}", create_time=NOW + number) for number in range(2)]
        for each in streams:
            await stores.event_streams.create(each, 2, [])
        async with stores._database.engine.begin() as connection:
            await connection.exec_driver_sql(f"UPDATE event_streams SET {damage} WHERE stream_id = 's-0'")
        await stores.event_streams.list()
        damaged, other = await stores.event_streams.list()
        assert other == streams[1]
        assert (damaged.status, damaged.events_requested) == (StreamStatus.DISABLED, ())
        assert damaged.reason == "its row in the database can't be read"
        assert await stores.event_streams.get("s-0") == damaged
        assert caplog.text.count("event stream s-0 of client receiver is treated as disabled") == 1
        assert await stores.event_streams.delete("s-0", [])

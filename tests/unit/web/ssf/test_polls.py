"""Polls of receivers (RFC 8936)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.support.deadline import eventually
from tests.unit.web.ssf.receiver import CAEP, Receiver, Scene, members_of, names
from token_service.core.event_streams import fan_out, pausing
from token_service.core.event_streams.polling import LONG_POLL, Poll


async def revoke(scene: Scene, count: int) -> list[str]:
    sessions = [await scene.session(f"user-{number}") for number in range(count)]
    for session_id in sessions:
        await scene.revoke(session_id)
    return sessions


def sessions_of(claims: list[dict[str, Any]]) -> list[str]:
    return [each["sub_id"]["session"]["id"] for each in claims]


@pytest.fixture
async def receiver(scene: Scene) -> Receiver:
    return await scene.receiver("web")


async def test_events_come_in_order_again_and_again_until_acknowledged(
    scene: Scene, receiver: Receiver
) -> None:
    stream = await receiver.create()
    sessions = await revoke(scene, 5)
    await scene.transmit()
    first = await receiver.poll(stream, maxEvents=2)
    assert sessions_of(first) == sessions[:2]
    again = await receiver.poll(stream, maxEvents=2)
    assert [each["jti"] for each in again] == [each["jti"] for each in first]
    assert sessions_of(await receiver.poll(stream, first[1]["jti"], maxEvents=2)) == [
        sessions[0],
        sessions[2],
    ]
    assert sessions_of(await receiver.poll(stream, first[0]["jti"])) == sessions[2:]
    assert scene.node.event_outcomes == ["delivered", "delivered"]


async def test_answer_tells_that_more_is_available(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    await revoke(scene, 2)
    await scene.transmit()
    path = stream["delivery"]["endpoint_url"]
    bodies = [
        (await receiver.call("POST", path, {"maxEvents": most, "returnImmediately": True})).json()
        for most in (0, 1, 2)
    ]
    assert [len(each["sets"]) for each in bodies] == [0, 1, 2]
    assert [each.get("moreAvailable") for each in bodies] == [None, True, None]


async def test_poll_waits_for_an_event(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    polls = scene.core.ssf.polls
    poll = asyncio.create_task(receiver.call("POST", stream["delivery"]["endpoint_url"], {}))
    await eventually(lambda: polls.waiting == 1)
    await revoke(scene, 1)
    await scene.transmit()
    assert len((await poll).json()["sets"]) == 1
    assert polls.waiting == 0
    scene.app.clock.elapsed += 1
    (claims,) = await receiver.poll(stream)
    await receiver.poll(stream, claims["jti"])
    poll = asyncio.create_task(receiver.call("POST", stream["delivery"]["endpoint_url"], {}))
    await eventually(lambda: polls.waiting == 1)
    scene.app.clock.elapsed += LONG_POLL
    assert (await poll).json() == {"sets": {}}


async def test_refused_event_is_not_sent_again(
    scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await receiver.create()
    await revoke(scene, 1)
    await scene.transmit()
    (claims,) = await receiver.poll(stream)
    error = {"err": "invalid\nissuer", "description": "token=s3cret"}
    with caplog.at_level(logging.WARNING):
        assert await receiver.poll(stream, setErrs={claims["jti"]: error}) == []
    assert scene.node.event_outcomes == ["refused"]
    assert "which are not sent again: other" in caplog.text
    assert "s3cret" not in caplog.text


async def test_pause_holds_events_and_loses_none(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    body = {"stream_id": stream["stream_id"]}
    before = await revoke(scene, 2)
    await scene.transmit()
    await receiver.call("POST", "/ssf/status", {**body, "status": "paused"})
    assert await receiver.poll(stream) == []
    during = await revoke(scene, 3)
    await scene.transmit()
    assert await receiver.poll(stream) == []
    await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"})
    assert sessions_of(await receiver.drain(stream)) == before + during


async def test_disabled_stream_gives_up_its_events(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    body = {"stream_id": stream["stream_id"]}
    await revoke(scene, 2)
    await scene.transmit()
    await receiver.call("POST", "/ssf/status", {**body, "status": "disabled"})
    await revoke(scene, 1)
    await scene.transmit()
    assert await receiver.poll(stream) == []
    await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"})
    after = await revoke(scene, 1)
    assert sessions_of(await receiver.drain(stream)) == after


async def test_stream_that_is_not_acknowledged_is_paused_and_loses_nothing(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fan_out, "MAX_WAITING", 3)
    stream = await receiver.create()
    sessions = await revoke(scene, 5)
    await scene.transmit()
    assert scene.node.event_pauses == ["not_acknowledged"]
    assert f"event stream {stream['stream_id']} of client web was paused" in caplog.text
    answer = await receiver.call("GET", f"/ssf/status?stream_id={stream['stream_id']}")
    status = answer.json()
    assert (status["status"], status["reason"]) == (
        "paused",
        pausing._TEXTS[pausing.PauseCause.NOT_ACKNOWLEDGED],
    )
    (update,) = await receiver.poll(stream)
    assert names([update]) == ["stream-updated"]
    assert update["sub_id"] == {"format": "opaque", "id": stream["stream_id"]}
    assert members_of(update) == {"status": "paused", "reason": status["reason"]}
    (line,) = scene.node.audit.named("event_stream.updated")
    assert (line["cause"], line["status_before"]) == ("not_acknowledged", "enabled")

    enable = {"stream_id": stream["stream_id"], "status": "enabled"}
    await receiver.poll(stream, update["jti"])
    await receiver.call("POST", "/ssf/status", enable)
    held = await receiver.poll(stream)
    assert sessions_of(held) == sessions[:3]
    await receiver.poll(stream, *(each["jti"] for each in held))
    assert sessions_of(await receiver.drain(stream)) == sessions[3:]
    assert scene.node.event_pauses == ["not_acknowledged"]


async def test_stream_whose_events_expired_is_paused_with_the_reason(
    scene: Scene, receiver: Receiver
) -> None:
    stream = await receiver.create()
    body = {"stream_id": stream["stream_id"]}
    await receiver.call("POST", "/ssf/status", {**body, "status": "paused"})
    await revoke(scene, 2)
    await scene.core.event_feed.step()
    await scene.core.ports.stores.events.purge(scene.app.clock.now() + 1, 100)
    await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"})
    (update,) = await receiver.drain(stream)
    assert scene.node.event_pauses == ["events_expired"]
    assert "deleted after their retention" in members_of(update)["reason"]
    await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"})
    sessions = await revoke(scene, 1)
    assert sessions_of(await receiver.drain(stream)) == sessions


async def test_restored_database_continues_with_its_own_events(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    store = scene.core.ports.stores.event_streams
    (stored,) = await store.list()
    place = (await scene.core.ports.stores.events.positions())[stored.consumer]
    await store.enqueue(stored, place, 1000, [])
    sessions = await revoke(scene, 2)
    await scene.transmit()
    assert sessions_of(await receiver.drain(stream)) == sessions


async def test_numbers_that_a_renewal_skips_are_no_loss(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create()
    before = await revoke(scene, 1)
    await scene.core.event_feed.step()
    scene.core.ports.stores.audit.renewals += 1  # type: ignore[attr-defined]
    after = await revoke(scene, 1)
    assert sessions_of(await receiver.drain(stream)) == before + after
    (stored,) = await scene.core.ports.stores.event_streams.list()
    places = await scene.core.ports.stores.events.positions()
    assert places[stored.consumer] > 1e15
    assert scene.node.event_pauses == []


async def test_events_of_many_streams_delivers_each_its_own(scene: Scene, receiver: Receiver) -> None:
    streams = [await receiver.create(f"{CAEP}session-revoked") for _ in range(3)]
    sessions = await revoke(scene, 250)
    found = [await receiver.drain(stream) for stream in streams]
    assert [len(each) for each in found] == [100, 100, 100]
    assert [sessions_of(each) for each in found] == [sessions[:100]] * 3
    assert len({each["jti"] for several in found for each in several}) == 300


@pytest.mark.parametrize(
    "body",
    [
        {"maxEvents": -1},
        {"maxEvents": True},
        {"maxEvents": "5"},
        {"returnImmediately": 1},
        {"ack": "jti"},
        {"ack": [7]},
        {"ack": ["x" * 65]},
        {"ack": ["x"] * 1001},
        {"setErrs": ["x"]},
        {"setErrs": {"x": "invalid"}},
        {"setErrs": {"x": {"err": 7}}},
        [],
    ],
)
async def test_wrong_poll_is_refused(scene: Scene, receiver: Receiver, body: Any) -> None:
    stream = await receiver.create()
    answer = await receiver.call("POST", stream["delivery"]["endpoint_url"], body)
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST")


async def test_pushed_stream_can_not_be_polled(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create(method="urn:ietf:rfc:8935")
    answer = await receiver.call("POST", f"/ssf/poll/{stream['stream_id']}", {})
    assert answer.status_code == 404


def test_poll_has_bounded_defaults() -> None:
    assert Poll() == Poll(max_events=100, return_immediately=False, acknowledged=(), refused={})

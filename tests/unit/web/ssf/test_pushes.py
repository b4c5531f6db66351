"""Pushes to receivers (RFC 8935)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.unit.web.ssf.receiver import PUSH, URL, Receiver, Scene, names
from token_service.core.access.caller import Caller
from token_service.core.event_streams import fan_out
from token_service.core.event_streams.pushing import PushAnswer, PushFailedError
from token_service.core.event_streams.sets import Selection
from token_service.core.event_streams.stream import EventStream, WaitingEvent
from token_service.core.event_streams.troubles import delay_after
from token_service.core.events.log import StoredEvent


@pytest.fixture
async def receiver(scene: Scene) -> Receiver:
    return await scene.receiver("web")


def sessions_of(receiver: Receiver) -> list[str]:
    return [each["sub_id"]["session"]["id"] for each in receiver.pushed()]


async def revoke(scene: Scene, count: int) -> list[str]:
    sessions = [await scene.session(f"user-{number}") for number in range(count)]
    for session_id in sessions:
        await scene.revoke(session_id)
    return sessions


async def test_events_are_pushed_in_order_with_the_header(scene: Scene, receiver: Receiver) -> None:
    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": "Bearer s3cret"}
    await receiver.create(delivery=delivery)
    sessions = await revoke(scene, 45)
    await scene.transmit()
    assert sessions_of(receiver) == sessions
    assert set(scene.pushed.requests) == {(URL, "Bearer s3cret")}
    assert scene.node.event_outcomes == ["delivered"] * 45


async def test_failed_push_is_repeated_with_the_same_jti_before_later_events(
    scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await receiver.create(method=PUSH)
    scene.pushed.answers = [
        PushAnswer(202, b""),
        PushFailedError("no connection"),
        PushAnswer(503, b""),
        PushAnswer(400, b'{"err":"authentication_failed","description":"token=s3cret"}'),
    ]
    sessions = await revoke(scene, 3)
    caplog.set_level(logging.INFO)
    await scene.transmit()
    for delay in (1, 2, 4):
        tried = len(scene.pushed.requests)
        scene.app.clock.elapsed += delay - 0.5
        await scene.transmit()
        assert len(scene.pushed.requests) == tried
        scene.app.clock.elapsed += 0.5
        await scene.transmit()
        assert len(scene.pushed.requests) > tried
    claims = receiver.pushed()
    assert [each["sub_id"]["session"]["id"] for each in claims] == [
        sessions[0],
        *[sessions[1]] * 3,
        sessions[2],
    ]
    assert len({each["jti"] for each in claims}) == 3
    assert scene.node.event_outcomes == ["delivered", *["failed"] * 3, "delivered", "delivered"]
    assert caplog.text.count("can't be pushed to client web, trying again: no connection") == 1
    assert caplog.text.count("are pushed to client web again") == 1
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("code", ["invalid_request", "invalid_state"])
async def test_event_that_the_receiver_calls_invalid_does_not_block_the_others(
    scene: Scene, receiver: Receiver, code: str
) -> None:
    await receiver.create(method=PUSH)
    scene.pushed.answers = [PushAnswer(400, b'{"err":"%s"}' % code.encode())]
    sessions = await revoke(scene, 2)
    await scene.transmit()
    assert sessions_of(receiver) == sessions
    assert scene.node.event_outcomes == ["refused", "delivered"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"err":7}', b'{"err":"' + b"x" * 100 + b'"}', b"\xff"])
async def test_refusal_without_a_known_code_is_repeated(
    scene: Scene, receiver: Receiver, body: bytes
) -> None:
    await receiver.create(method=PUSH)
    scene.pushed.answers = [PushAnswer(400, body)]
    await revoke(scene, 1)
    await scene.transmit()
    assert scene.node.event_outcomes == ["failed"]
    scene.app.clock.elapsed += 1
    await scene.transmit()
    assert scene.node.event_outcomes == ["failed", "delivered"]


async def test_receiver_that_is_away_delays_no_other(scene: Scene, receiver: Receiver) -> None:
    other = await scene.receiver("hub", "web")
    await receiver.create(method=PUSH)
    await other.create(delivery={"method": PUSH, "endpoint_url": f"{URL}/hub"})
    scene.pushed.answers = [PushFailedError("away")]
    sessions = await revoke(scene, 3)
    await scene.transmit()
    assert [
        scene.claims(token, "hub")["sub_id"]["session"]["id"] for token in scene.pushed.tokens
    ] == sessions


async def test_unexpected_error_delays_only_its_stream_and_shows_no_secret(
    scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    other = await scene.receiver("hub", "web")
    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": "Bearer s3cret"}
    await receiver.create(delivery=delivery)
    await other.create(delivery={"method": PUSH, "endpoint_url": f"{URL}/hub"})
    scene.pushed.faults[URL] = ValueError("illegal header value 'Bearer s3cret'")
    sessions = await revoke(scene, 3)
    for delay in (0, 1, 2):
        scene.app.clock.elapsed += delay
        await scene.transmit()
    tried = [url for url, _ in scene.pushed.requests]
    assert tried.count(URL) == 3, "with growing pauses"
    assert [
        scene.claims(token, "hub")["sub_id"]["session"]["id"] for token in scene.pushed.tokens
    ] == sessions
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "can't be pushed to client web, trying again: unexpected ValueError" in record.getMessage()
    assert "in _attempt" in caplog.text, "where it came from"
    assert "s3cret" not in caplog.text
    del scene.pushed.faults[URL]
    scene.pushed.tokens.clear()
    scene.app.clock.elapsed += 4
    await scene.transmit()
    assert sessions_of(receiver) == sessions


async def test_header_whose_key_is_missing_delays_only_its_stream(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = await scene.receiver("hub", "web")
    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": "Bearer s3cret"}
    await receiver.create(delivery=delivery)
    await other.create(delivery={"method": PUSH, "endpoint_url": f"{URL}/hub"})
    sessions = await revoke(scene, 1)
    with monkeypatch.context() as patched:
        patched.setattr(scene.core.ports.wrap, "key_id", "kek-2")
        await scene.transmit()
    assert [url for url, _ in scene.pushed.requests] == [f"{URL}/hub"]
    assert "can't be pushed to client web, trying again: no key-encryption key kek-1" in caplog.text
    scene.pushed.tokens.clear()
    scene.app.clock.elapsed += 1
    await scene.transmit()
    assert sessions_of(receiver) == sessions


async def test_event_that_can_not_be_read_for_one_stream_stops_no_other(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = await scene.receiver("hub", "web")
    await receiver.create(method=PUSH)
    await other.create(delivery={"method": PUSH, "endpoint_url": f"{URL}/hub"})
    sessions = await revoke(scene, 2)
    select, asked = Selection.of, 0

    async def selected(selection: Selection, stream: EventStream, event: StoredEvent) -> list[WaitingEvent]:
        nonlocal asked
        if stream.client_id == "web":
            asked += 1
            raise KeyError("subject")
        return await select(selection, stream, event)

    with monkeypatch.context() as patched:
        patched.setattr(Selection, "of", selected)
        for delay in (0, 1, 2):
            scene.app.clock.elapsed += delay
            await scene.transmit()
    assert asked == 3, "with growing pauses"
    assert [
        scene.claims(token, "hub")["sub_id"]["session"]["id"] for token in scene.pushed.tokens
    ] == sessions
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "of client web, trying again: unexpected KeyError" in record.getMessage()
    scene.pushed.tokens.clear()
    scene.app.clock.elapsed += 4
    await scene.transmit()
    assert sessions_of(receiver) == sessions


async def test_unexpected_error_does_not_end_the_transmitter(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transmitter, asked = scene.core.ssf.transmitter, asyncio.Event()
    runs = 0

    async def unreadable() -> bool:
        nonlocal runs
        runs += 1
        if runs == 2:
            asked.set()
        transmitter.wake()
        raise ValueError("'carrier pigeon' is not a valid DeliveryMethod")

    monkeypatch.setattr(transmitter, "step", unreadable)
    task = asyncio.create_task(transmitter.run())
    async with asyncio.timeout(10):
        await asked.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert caplog.text.count("event streams can't be served, trying again: unexpected ValueError") == 1


async def test_changed_endpoint_is_tried_at_once(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create(method=PUSH)
    scene.pushed.answers = [PushFailedError("away")] * 1
    await revoke(scene, 1)
    await scene.transmit()
    delivery = {"method": PUSH, "endpoint_url": f"{URL}/new"}
    await receiver.call("PATCH", "/ssf/streams", {"stream_id": stream["stream_id"], "delivery": delivery})
    await scene.transmit()
    assert [url for url, _ in scene.pushed.requests] == [URL, f"{URL}/new"]


async def test_full_stream_waits_for_its_receiver_without_a_pause(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "MAX_WAITING", 2)
    await receiver.create(method=PUSH)
    scene.pushed.answers = [PushFailedError("away")]
    sessions = await revoke(scene, 5)
    await scene.transmit()
    assert scene.core.ssf.transmitter.backlog.count == 2
    scene.app.clock.elapsed += 1
    for _ in range(2):
        await scene.transmit()
    assert sessions_of(receiver) == sessions
    assert scene.node.event_pauses == []


async def test_paused_stream_pushes_nothing_until_it_is_enabled(scene: Scene, receiver: Receiver) -> None:
    stream = await receiver.create(method=PUSH)
    body = {"stream_id": stream["stream_id"]}
    await receiver.call("POST", "/ssf/status", {**body, "status": "paused"})
    sessions = await revoke(scene, 2)
    await receiver.call("POST", "/ssf/verify", body)
    await scene.transmit()
    assert scene.pushed.tokens == []
    await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"})
    await scene.transmit()
    found = receiver.pushed()
    assert sorted(names(found)) == ["session-revoked", "session-revoked", "verification"]
    assert [each["sub_id"]["session"]["id"] for each in found if "session" in each["sub_id"]] == sessions


async def test_disabled_client_gets_nothing_until_it_is_enabled(scene: Scene, receiver: Receiver) -> None:
    hub = await scene.receiver("hub", "web")
    await hub.create(method=PUSH)
    administration, now = scene.core.client_administration, scene.app.clock.now()
    await administration.disable(Caller.system(), "hub", now)
    sessions = await revoke(scene, 1)
    await scene.transmit()
    assert scene.pushed.tokens == []
    await administration.enable(Caller.system(), "hub", now)
    await scene.transmit()
    disabled, revoked = hub.pushed()
    assert disabled["sub_id"]["application"]["id"] == "hub"
    assert [revoked["sub_id"]["session"]["id"]] == sessions


async def test_node_without_the_lease_pushes_nothing(scene: Scene, receiver: Receiver) -> None:
    await receiver.create(method=PUSH)
    leases = scene.core.ports.stores.leases
    await leases.acquire("ssf", "another node", 60)
    assert not await scene.core.ssf.transmitter._leads()
    await revoke(scene, 1)
    await scene.core.event_feed.step()
    await scene.core.ssf.transmitter.step()
    await scene.core.ssf.transmitter._pusher.stop()
    assert scene.pushed.tokens == []


def test_delays_grow_to_five_minutes() -> None:
    assert [delay_after(attempts) for attempts in (1, 2, 3, 4, 9, 10, 1000)] == [1, 2, 4, 8, 256, 300, 300]

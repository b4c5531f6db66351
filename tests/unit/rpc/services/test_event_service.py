"""EventService over a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.deadline import eventually
from tests.unit.rpc.serving import TIMEOUT, Served, refused, serving
from token_service.rpc.stream import event_readers
from token_service.v1 import client_service_pb2 as client_pb, event_service_pb2 as pb, token_service_pb2
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.event_service_pb2_grpc import EventServiceStub


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def stream(served: Served, **fields: Any) -> Any:
    return EventServiceStub(served.channel).StreamEvents(pb.StreamEventsRequest(**fields))


async def read(call: Any) -> pb.StreamEventsResponse:
    return await asyncio.wait_for(call.read(), TIMEOUT)


async def events(call: Any, count: int) -> list[pb.Event]:
    found: list[pb.Event] = []
    while len(found) < count:
        found.extend((await read(call)).events)
    assert len(found) == count
    return found


async def settled(served: Served) -> str:
    """Return the cursor after every event that is written now."""
    await eventually(lambda: _settled(served))
    return (await read(stream(served))).cursor


async def _settled(served: Served) -> bool:
    head, known = await served.node.stores.events.head(), served.node.core.event_feed.known
    return not head.waiting and known is not None and known.sequence == head.sequence


async def revoke(served: Served, subject: str) -> None:
    await served.tokens.RevokeToken(token_service_pb2.RevokeTokenRequest(subject=subject, comment="left"))


async def create_client(served: Served, name: str) -> None:
    await ClientServiceStub(served.channel).CreateClient(
        client_pb.CreateClientRequest(client=client_pb.Client(client_id=name))
    )


async def test_stream_begins_with_the_next_event_and_is_typed(served: Served) -> None:
    await revoke(served, "before")
    await settled(served)
    call = stream(served)
    first = await read(call)
    assert (list(first.events), first.caught_up, first.reset) == ([], True, False)
    await revoke(served, "alice")
    await create_client(served, "web")
    revoked, created = await events(call, 2)
    assert (revoked.type, revoked.audit_event.target.subject) == (pb.EVENT_TYPE_REVOKED, "alice")
    assert revoked.revocation.revocation_cursor.endswith(":2")
    assert revoked.id == f"{revoked.audit_event.chain_id}:{revoked.audit_event.position}"
    assert (created.type, created.audit_event.target.id) == (pb.EVENT_TYPE_CLIENT_CREATED, "web")
    assert created.WhichOneof("detail") is None


async def test_stream_resumes_after_its_cursor(served: Served) -> None:
    start = await settled(served)
    for subject in ("a", "b", "c"):
        await revoke(served, subject)
    call = stream(served, cursor=start)
    cursor, seen = "", list[str]()
    while not seen:
        answer = await read(call)
        seen, cursor = [event.audit_event.target.subject for event in answer.events], answer.cursor
    call.cancel()
    await revoke(served, "d")
    rest = await events(stream(served, cursor=cursor), 4 - len(seen))
    assert seen + [event.audit_event.target.subject for event in rest] == ["a", "b", "c", "d"]


async def test_filters_choose_events_and_the_cursor_moves_past_the_others(served: Served) -> None:
    start = await settled(served)
    await revoke(served, "alice")
    await create_client(served, "web")
    await revoke(served, "bob")
    end = await settled(served)
    only: dict[str, dict[str, Any]] = {
        "clients": {"types": [pb.EVENT_TYPE_CLIENT_CREATED]},
        "security": {"categories": ["security"]},
        "bob": {"subject": "bob"},
        "web": {"client_id": "web"},
    }
    found: dict[str, list[str]] = {}
    for name, fields in only.items():
        call = stream(served, cursor=start, **fields)
        found[name] = []
        while True:
            answer = await read(call)
            found[name] += [event.audit_event.target.id for event in answer.events]
            if answer.cursor == end:
                break
        call.cancel()
    assert found == {"clients": ["web"], "security": ["alice", "bob"], "bob": ["bob"], "web": ["web"]}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"types": [0]}, "types[0]"),
        ({"categories": ["odd"]}, "categories[0]"),
        ({"types": [1] * 65}, "types"),
        ({"subject": "x" * 4096}, "subject"),
    ],
)
async def test_bad_requests_are_refused(served: Served, fields: dict[str, Any], where: str) -> None:
    error = await refused(read(stream(served, **fields)))
    assert (error.reason, error.code) == ("INVALID_REQUEST", "INVALID_ARGUMENT")
    assert set(error.fields) == {where}


async def test_cursor_of_another_log_begins_again_and_an_expired_one_is_refused(served: Served) -> None:
    for subject in ("a", "b", "c"):
        await revoke(served, subject)
    epoch, _, last = (await settled(served)).partition(":")
    for cursor in ("otherlog:2", f"{epoch}:{int(last) + 99}"):
        first = await read(stream(served, cursor=cursor))
        assert first.reset
        assert [event.audit_event.target.subject for event in first.events][-3:] == ["a", "b", "c"]
        assert len(first.events) == int(last)
    await served.node.stores.events.purge(1e12, int(last) - 1)
    error = await refused(read(stream(served, cursor=f"{epoch}:1")))
    assert (error.reason, error.code) == ("EVENTS_EXPIRED", "OUT_OF_RANGE")
    earliest = error.metadata["earliest_cursor"]
    assert earliest == f"{epoch}:{int(last) - 1}"
    (event,) = await events(stream(served, cursor=earliest), 1)
    assert event.audit_event.target.subject == "c"


async def test_streams_are_limited_and_end_with_the_server(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_readers, "MAX_EVENT_READERS", 1)
    call = stream(served)
    await read(call)
    assert (await refused(read(stream(served)))).reason == "OVERLOADED"
    ended = asyncio.create_task(refused(read(call)))
    await served.server.stop(1.0)
    assert (await ended).reason == "SHUTTING_DOWN"

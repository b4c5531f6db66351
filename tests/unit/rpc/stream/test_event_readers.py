"""StreamEvents: ends, limits and slow readers of its streams."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.support.deadline import eventually
from tests.unit.core.events.test_feed import changes
from tests.unit.rpc.serving import TIMEOUT, Failure, Served, refused, serving
from tests.unit.rpc.stream.test_feed import ByToken, Changeable
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.policies.rights import Permission
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.stream import event_readers
from token_service.rpc.stream.event_readers import EventReaderServer
from token_service.tokens.claims import TokenKind
from token_service.v1 import event_service_pb2 as pb
from token_service.v1.event_service_pb2_grpc import EventServiceStub


def stream(served: Served, channel: Any = None, **fields: Any) -> Any:
    return EventServiceStub(channel or served.channel).StreamEvents(pb.StreamEventsRequest(**fields))


async def read(call: Any) -> pb.StreamEventsResponse:
    answer = await asyncio.wait_for(call.read(), TIMEOUT)
    assert isinstance(answer, pb.StreamEventsResponse), "the stream ended with OK"
    return answer


async def ended(call: Any) -> Failure:
    """Read to the end and return its status."""

    async def end() -> None:
        while True:
            await read(call)

    return await refused(end())


def streams_of(served: Served) -> EventReaderServer:
    service: Any = served.services["token_service.v1.EventService"]
    return service._streams


async def test_lost_permission_ends_a_quiet_stream() -> None:
    authorizer = Changeable()
    async with serving(authorizer=authorizer) as served:
        call = stream(served)
        await read(call)
        authorizer.change(Permission.ADMIN_READ)
        await served.node.stores.audit.append(changes(1, 1))
        assert len((await read(call)).events) == 1
        authorizer.change(Permission.SUBSCRIBE)
        failure = await ended(call)
        assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert failure.metadata == {"permission": "admin.read"}
        await eventually(lambda: len(streams_of(served)) == 0)


async def test_revoked_bearer_token_ends_its_stream_and_opens_no_other() -> None:
    authorizer = ByToken()
    async with serving(authorizer=authorizer) as served:
        node = served.node
        issued = await node.issue("app", client_id="app", kinds=frozenset({TokenKind.ACCESS}))
        other = stream(served)
        await read(other)
        authorizer.caller = replace(authorizer.caller, token=node.verifier.verify(issued.access_token))
        call = stream(served)
        await read(call)
        await node.revoke(token=issued.access_token)
        for failure in (await ended(call), await refused(read(stream(served)))):
            assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
        await eventually(lambda: len(streams_of(served)) == 1)
        other.cancel()


async def test_expired_proof_ends_the_stream() -> None:
    authorizer = ByToken()
    async with serving(authorizer=authorizer) as served:
        call = stream(served)
        await read(call)
        authorizer.expires = served.node.clock.now() - 1
        for listener in authorizer.listeners:
            listener()
        assert (await ended(call)).reason == "CALLER_UNAUTHENTICATED"


async def test_old_stream_ends_and_resumes() -> None:
    async with serving(limits=GrpcLimits(stream_max_age=0.5)) as served:
        call = stream(served)
        cursor = (await read(call)).cursor
        failure = await ended(call)
        assert (failure.code, failure.reason, failure.retry_after) == ("ABORTED", "STREAM_ENDED", 0.0)
        streams_of(served)._max_age = 3600.0
        await served.node.stores.audit.append(changes(1, 1))
        resumed = stream(served, cursor=cursor)
        while not (answer := await read(resumed)).events:
            pass
        assert answer.events[0].audit_event.target.id == "c-1"


async def test_cancelled_streams_free_their_places() -> None:
    async with serving() as served:
        for _ in range(30):  # more than one caller may have at once
            call = stream(served)
            await read(call)
            call.cancel()
            await eventually(lambda: len(streams_of(served)) == 0)
        assert served.node.core.event_feed._readers == 0


async def test_a_hundred_streams_share_the_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_readers, "MAX_EVENT_READERS_PER_CALLER", 100)
    async with serving(limits=GrpcLimits(connection_streams=200)) as served:
        calls = [stream(served) for _ in range(100)]
        await asyncio.gather(*map(read, calls))
        assert len(streams_of(served)) == 100
        assert (await refused(read(stream(served)))).reason == "OVERLOADED"
        reads = []
        log: Any = served.node.stores.events
        read_log = log.read

        async def counted(after: int, limit: int) -> Any:
            reads.append(after)
            return await read_log(after, limit)

        log.read = counted
        await eventually(lambda: served.node.core.event_feed._readers == 100)
        await served.node.stores.audit.append(changes(1, 3))
        for answer in await asyncio.gather(*map(read, calls)):
            assert [event.audit_event.target.id for event in answer.events] == ["c-1", "c-2", "c-3"]
        assert len(reads) == 1
        for call in calls:
            call.cancel()
        await eventually(lambda: len(streams_of(served)) == 0)


async def test_reader_that_does_not_read_is_ended_and_others_are_not() -> None:
    """It holds one page of events; the others get everything meanwhile."""
    large = [
        AuditEvent(
            action=Action.CLIENT_UPDATED,
            actor=Actor.system("test"),
            target=Target("client", f"c-{number}"),
            fields={"text": "x" * 2000},
        )
        for number in range(5000)
    ]
    async with serving(limits=GrpcLimits(stream_max_stall=0.5)) as served:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 1024),
        ]
        async with grpc.aio.insecure_channel(served.address, options=options) as channel:
            stalled = stream(served, channel)
            await read(stalled)
            call = stream(served)
            await read(call)
            await served.node.stores.audit.append(large)
            count = 0
            while count < len(large):
                count += len((await read(call)).events)
            await eventually(lambda: any(each.end for each in streams_of(served)._open))
            failure = await ended(stalled)
            assert (failure.code, failure.reason) == ("ABORTED", "STREAM_ENDED")
            await eventually(lambda: len(streams_of(served)) == 1)
            call.cancel()

"""Hostile peers: limits on their use of the server, and the effect on honest callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from tests.support.deadline import eventually
from tests.support.memory_stores import MemoryStores
from tests.support.raw_http2 import RawConnection, message
from tests.unit.core.node import Intercepted, Node
from tests.unit.rpc.serving import TIMEOUT, Failure, Served, refused, serving
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.errors import CallerUnauthenticatedError
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.v1 import token_service_pb2 as pb

TOKENS = "/token_service.v1.TokenService/"
ISSUE = TOKENS + "IssueToken"
REQUEST = pb.IssueTokenRequest(subject="a", client_id="b").SerializeToString()
DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAUTHENTICATED = 4, 3, 8, 16


async def connected(connection: RawConnection, streams: int) -> None:
    """Wait for the settings of the server."""
    await eventually(lambda: connection.max_streams == streams)


class ByHeader(TrustingAuthorizer):
    """An authorizer that takes the name of the caller from the metadata."""

    def identify(self, peer: Any) -> Caller:
        metadata = {key: str(value) for key, value in peer.invocation_metadata()}
        name = metadata.get("caller", "")
        if not name:
            raise CallerUnauthenticatedError
        return Caller(name, Rights.everything(), identity=name)


def as_caller(name: str) -> tuple[tuple[str, str], ...]:
    return (("caller", name),)


# --- Calls without an end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["IssueToken", "StreamRevocations"])
async def test_calls_without_a_message_are_few_and_end(method: str) -> None:
    async with serving(limits=GrpcLimits(request_timeout=2.0, connection_streams=20)) as served:
        async with RawConnection(served.address) as hostile:
            await connected(hostile, 20)
            streams = [hostile.begin(TOKENS + method) for _ in range(20)]
            hostile.flush()
            answers = [await hostile.over(stream) for stream in streams]
            assert {(answer.status, answer.reason) for answer in answers} == {
                (DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
            }
            whole = await hostile.over(await hostile.call(ISSUE, REQUEST))
            assert whole.status == 0
        assert served.server._edge.receiving == 0
        assert len(served.server._deadlines) == 0


async def test_calls_without_a_message_are_no_running_calls() -> None:
    limits = GrpcLimits(max_concurrent_calls=1, request_timeout=300)
    async with serving(limits=limits) as served, RawConnection(served.address) as hostile:
        for _ in range(50):
            hostile.begin(ISSUE)
        hostile.flush()
        await eventually(lambda: served.server._edge.receiving == 50)
        assert (await served.issue()).access_token


async def test_streams_beyond_the_limit_of_a_connection_are_reset_and_others_untouched() -> None:
    async with (
        serving(limits=GrpcLimits(connection_streams=20)) as served,
        RawConnection(served.address) as hostile,
    ):
        await connected(hostile, 20)
        hostile.ignore_max_streams()
        streams = [hostile.begin(ISSUE) for _ in range(200)]
        hostile.flush()
        await eventually(lambda: hostile.open_streams <= 20)
        resets = Counter(hostile.answers[stream].reset for stream in streams)
        assert resets[7] == 180  # REFUSED_STREAM: the call was not started
        assert (await served.issue()).access_token


async def test_call_that_ends_without_a_message_is_told_so() -> None:
    async with serving() as served, RawConnection(served.address) as hostile:
        stream = hostile.begin(ISSUE, end=True)
        hostile.flush()
        answer = await hostile.over(stream)
        assert (answer.status, answer.reason) == (INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_unknown_caller_is_refused_before_its_message_is_read() -> None:
    async with serving(authorizer=ByHeader()) as served, RawConnection(served.address) as hostile:
        stream = hostile.begin(ISSUE)
        hostile.flush()
        answer = await hostile.over(stream)
        assert (answer.status, answer.reason) == (UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")


async def test_messages_without_their_last_byte_are_read_few_at_a_time() -> None:
    """The rest stays at the sender: the server accepts 64 KiB of each message."""
    limits = GrpcLimits(reads_per_caller=2, request_timeout=300)
    async with serving(limits=limits) as served, RawConnection(served.address) as hostile:
        streams = [hostile.begin(ISSUE) for _ in range(6)]
        unfinished = message(b"a" * 1_000_000)[:-1]
        sending = [asyncio.create_task(hostile.send(stream, unfinished)) for stream in streams]
        await asyncio.wait(sending[:2])
        assert [task.done() for task in sending] == [True, True, False, False, False, False]
        await eventually(lambda: served.server._edge.receiving == 6)
        window = [hostile._h2.local_flow_control_window(stream) for stream in streams]
        assert window[2:] == [0] * 4
        # Honest callers are not delayed, and the turns go on as messages are completed.
        assert (await served.issue()).access_token
        await hostile.send(streams[0], b"a", end=True)
        assert (await hostile.over(streams[0])).status == INVALID_ARGUMENT
        await asyncio.wait(sending[2:3], timeout=TIMEOUT)
        assert sending[2].done()
        for task in sending:
            task.cancel()


async def test_client_that_goes_away_amid_its_message_leaves_nothing_behind() -> None:
    async with serving(limits=GrpcLimits(reads_per_caller=2, request_timeout=300)) as served:
        async with RawConnection(served.address) as hostile:
            streams = [hostile.begin(ISSUE) for _ in range(8)]
            hostile.flush()
            await eventually(lambda: served.server._edge.receiving == 8)
            for stream in streams[::2]:
                hostile.reset(stream)
            hostile.flush()
            await eventually(lambda: served.server._edge.receiving == 4)
        await eventually(lambda: served.server._edge.receiving == 0)
        assert len(served.server._deadlines) == 0
        assert not served.server._edge._reception._callers


# --- Resets and bursts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["headers", "whole calls"])
async def test_rapid_reset_does_not_end_calls_of_other_connections(*, whole: bool) -> None:
    async with serving() as served, RawConnection(served.address) as hostile:
        honest = [asyncio.create_task(_keep_calling(served, 5)) for _ in range(4)]
        for _ in range(100):
            for _ in range(50):
                stream = hostile.begin(ISSUE)
                if whole:
                    hostile._h2.send_data(stream, message(REQUEST), end_stream=True)
                hostile.reset(stream)
            hostile.flush()
            await hostile._writer.drain()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*honest)
        assert outcomes == [Counter({"OK": 5})] * 4
        await eventually(lambda: served.server._edge.running == 0)


async def test_burst_on_one_channel_is_answered_and_others_are_not_cancelled() -> None:
    async with serving() as served:
        honest = asyncio.create_task(_keep_calling(served, 20))
        async with grpc.aio.insecure_channel(
            served.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call: Any = channel.unary_unary(TOKENS + "ValidateToken")
            request = pb.ValidateTokenRequest(token="x").SerializeToString()
            outcomes = Counter(await asyncio.gather(*(_outcome(call(request)) for _ in range(1500))))
        assert outcomes.keys() <= {"OK", "RESOURCE_EXHAUSTED OVERLOADED"}
        assert await honest == Counter({"OK": 20})


async def _keep_calling(served: Served, times: int) -> Counter[str]:
    """Make sequential calls over a new connection."""
    async with grpc.aio.insecure_channel(
        served.address, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        call: Any = channel.unary_unary(TOKENS + "ValidateToken")
        request = pb.ValidateTokenRequest(token="x").SerializeToString()
        return Counter([await _outcome(call(request, timeout=TIMEOUT)) for _ in range(times)])


async def _outcome(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        failure = Failure(error)
        assert failure.retry_after is not None, failure
        return f"{failure.code} {failure.reason}"
    return "OK"


# --- Quotas of callers ------------------------------------------------------------------------------------------------


async def test_one_caller_at_its_limit_of_calls_keeps_no_other_from_calling() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    going_on = asyncio.Event()
    sessions.before["create"] = going_on.wait  # type: ignore[assignment]
    node = Node(clock, stores=stores, sessions=sessions)
    limits = GrpcLimits(max_concurrent_calls=10, max_calls_per_caller=4)
    async with serving(node=node, limits=limits, authorizer=ByHeader()) as served:
        issue = served.tokens.IssueToken
        request = pb.IssueTokenRequest(subject="a", client_id="b")
        running = [asyncio.ensure_future(_done(issue(request, metadata=as_caller("evil")))) for _ in range(4)]
        await eventually(lambda: sessions.calls.count("create") == 4)
        failure = await refused(issue(request, metadata=as_caller("evil")))
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert failure.metadata == {"quota": "concurrent calls", "limit": "4"}
        assert failure.retry_after == 0.5
        judged = await served.tokens.ValidateToken(
            pb.ValidateTokenRequest(token="x"), metadata=as_caller("honest")
        )
        assert not judged.active
        going_on.set()
        await asyncio.gather(*running)
        assert (await issue(request, metadata=as_caller("evil"))).access_token


async def _done(call: Any) -> Any:
    return await call


async def test_calls_that_wait_take_no_place_of_running_calls() -> None:
    limits = GrpcLimits(max_concurrent_calls=2, max_calls_per_caller=2, max_waits_per_caller=3)
    async with serving(limits=limits, authorizer=ByHeader()) as served:
        served.node.subscribers.connect("deaf")
        revoke = served.tokens.RevokeToken
        waiting = pb.RevokeTokenRequest(
            subject="a", wait=pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout={"seconds": 60})
        )
        calls = []
        for number in range(3):
            calls.append(asyncio.ensure_future(_done(revoke(waiting, metadata=as_caller("evil")))))

            def waits(count: int = number + 1) -> bool:
                return served.server._edge.waiting == count

            await eventually(waits)
        assert served.server._edge.running == 0
        failure = await refused(revoke(waiting, metadata=as_caller("evil")))
        assert (failure.reason, failure.metadata["quota"]) == ("OVERLOADED", "waiting calls")
        plain = pb.RevokeTokenRequest(subject="b")
        assert (await revoke(plain, metadata=as_caller("evil"))).cursor
        honest = asyncio.ensure_future(_done(revoke(waiting, metadata=as_caller("honest"))))
        await eventually(lambda: served.server._edge.waiting == 4)
        served.node.subscribers.disconnect("deaf")
        await asyncio.gather(*calls, honest)
        assert (served.server._edge.waiting, served.server._edge.running) == (0, 0)


async def test_all_waits_together_are_limited() -> None:
    async with serving(limits=GrpcLimits(max_waits=1)) as served:
        served.node.subscribers.connect("deaf")
        waiting = {
            "subject": "a",
            "wait": pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout={"seconds": 60}),
        }
        first = asyncio.ensure_future(served.revoke(**waiting))
        await eventually(lambda: served.server._edge.waiting == 1)
        failure = await refused(served.revoke(**waiting))
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        served.node.subscribers.disconnect("deaf")
        assert (await first).subscribers_connected == 0


async def test_one_caller_at_its_limit_of_streams_keeps_no_other_from_following() -> None:
    limits = GrpcLimits(max_streams=4, max_streams_per_caller=2)
    async with serving(limits=limits, authorizer=ByHeader()) as served:
        follow = served.tokens.StreamRevocations
        streams = [follow(pb.StreamRevocationsRequest(), metadata=as_caller("evil")) for _ in range(2)]
        for stream in streams:
            await stream.read()
        failure = await refused(follow(pb.StreamRevocationsRequest(), metadata=as_caller("evil")).read())
        assert (failure.code, failure.metadata["quota"]) == ("RESOURCE_EXHAUSTED", "streams")
        honest = follow(pb.StreamRevocationsRequest(), metadata=as_caller("honest"))
        assert (await honest.read()).reset
        for stream in (*streams, honest):
            stream.cancel()
        await eventually(lambda: len(served.feed) == 0)
        again = follow(pb.StreamRevocationsRequest(), metadata=as_caller("evil"))
        assert (await again.read()).reset
        again.cancel()


async def test_large_answers_that_are_never_read_are_limited() -> None:
    limits = GrpcLimits(max_unread_bytes_per_caller=1_000_000)
    async with serving(limits=limits) as served:
        issued = await served.issue(
            token_types=[1], custom_claims={f"k{number}": "v" * 200 for number in range(18)}
        )
        request = pb.BatchValidateTokensRequest(
            requests=[pb.ValidateTokenRequest(token=issued.access_token)] * 60
        ).SerializeToString()
        validate: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.channel.unary_unary(
            TOKENS + "BatchValidateTokens"
        )
        size = len(await validate(request))
        assert 200_000 < size < 300_000
        fit = 1_000_000 // size
        async with RawConnection(served.address, window=0) as hostile:
            streams = [await hostile.call(TOKENS + "BatchValidateTokens", request) for _ in range(10)]
            await eventually(lambda: hostile.open_streams == fit)
            refusals = [
                hostile.answers[stream] for stream in streams if hostile.answers[stream].over.is_set()
            ]
            assert {(answer.status, answer.reason) for answer in refusals} == {
                (RESOURCE_EXHAUSTED, "OVERLOADED")
            }
            assert {answer.retry_after for answer in refusals} == {0.5}
        await eventually(lambda: not served.server._edge._unread._held)


# --- Connections ------------------------------------------------------------------------------------------------------


async def test_connections_beyond_the_limit_are_closed_and_open_ones_go_on() -> None:
    async with serving(limits=GrpcLimits(max_connections=3)) as served:
        await served.issue()
        async with RawConnection(served.address) as one, RawConnection(served.address) as two:
            await connected(one, 100)
            await connected(two, 100)
            async with RawConnection(served.address) as three:
                await asyncio.wait_for(three.closed.wait(), TIMEOUT)
            assert (await served.issue()).access_token
            assert not one.closed.is_set()

        async def admitted() -> bool:
            async with RawConnection(served.address) as later:
                await eventually(lambda: later.max_streams == 100 or later.closed.is_set())
                return not later.closed.is_set()

        await eventually(admitted)  # once the server has noticed that the other connections are closed


async def test_connection_that_never_begins_http2_is_closed() -> None:
    async with serving(limits=GrpcLimits(handshake_timeout=0.3)) as served:
        host, _, port = served.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with_settings = await asyncio.wait_for(reader.read(), TIMEOUT)  # until it is closed
        assert len(with_settings) < 200
        writer.close()


async def test_connection_without_calls_is_closed() -> None:
    async with (
        serving(limits=GrpcLimits(connection_max_idle=0.5)) as served,
        RawConnection(served.address) as idle,
    ):
        answer = await idle.over(await idle.call(ISSUE, REQUEST))
        assert answer.status == 0
        await asyncio.wait_for(idle.closed.wait(), TIMEOUT)
        assert (await served.issue()).access_token


class Watching(TrustingAuthorizer):
    """An authorizer that records the connection of each call."""

    def __init__(self) -> None:
        self.peers: set[str] = set()

    def identify(self, peer: Any) -> Caller:
        self.peers.add(peer.peer())
        return super().identify(peer)


async def test_old_connection_takes_no_new_calls_and_its_stream_ends_with_a_reason() -> None:
    watching = Watching()
    limits = GrpcLimits(connection_max_age=0.5, stream_max_age=3.0)
    async with serving(limits=limits, authorizer=watching) as served:
        reader = served.follow()
        await reader.caught_up()

        async def came_over_another() -> bool:
            await served.validate("x")
            return len(watching.peers) > 1

        await eventually(came_over_another)
        failure = await reader.ended()
        assert (failure.code, failure.reason) == ("ABORTED", "STREAM_ENDED")
        async with served.follow(reader.cursor) as again:
            assert not (await again.caught_up()).reset


def test_connection_outlives_its_youngest_stream() -> None:
    for age in (1.0, 1800.0, 86_400.0):
        limits = GrpcLimits(stream_max_age=age)
        assert limits.connection_grace > age * 1.2 + limits.stream_max_stall


async def test_pings_every_ten_seconds_of_a_quiet_validator_are_no_abuse() -> None:
    """Two strikes are allowed, so the third of too many pings ends the connection."""
    async with serving() as served, RawConnection(served.address) as quiet:
        await connected(quiet, 100)
        for number in range(3):
            quiet.ping()

            def answered(before: int = number) -> bool:
                return quiet.pings_answered > before

            await eventually(answered)
        await quiet.over(await quiet.call(ISSUE, REQUEST))
        assert quiet.goaway is None or quiet.goaway == 11

"""SIGTERM: a node takes no new calls, finishes running ones, and ends streams so that another node can resume them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest

from tests.integration.calls import Api, Failure, Follower, sequence
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from token_service.v1 import session_service_pb2


@pytest.fixture(scope="module")
def pair(shared_postgres_url: str) -> Iterator[list[Node]]:
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": shared_postgres_url}) as pair:
        yield pair


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopping_node_finishes_calls_and_streams_resume_elsewhere(
    pair: list[Node], number: signal.Signals
) -> None:
    leaving, staying = pair
    if not leaving.running:
        await asyncio.to_thread(leaving.start)
    subject = f"till-the-end-{number.name}"
    answers: list[object] = []
    refusals: list[Failure] = []

    async def keep_calling(api: Api) -> None:
        for _ in range(1_000_000):
            try:
                answers.append(await api.issue(subject))
            except grpc.aio.AioRpcError as error:
                refusals.append(Failure.of(error))
                return

    async with Api(leaving.grpc_address) as one, Api(staying.grpc_address) as other:
        follower = Follower(one, await one.confirm("", ""), "leaving", confirm=one)
        start = sequence(follower.cursor)
        async with follower, Follower(other, "", "deaf"):
            # A slow call: it waits for a validator that never confirms.
            await eventually(lambda: _waits_for(one, 2))
            waiting = asyncio.create_task(one.revoke(subject="waited-for", wait=3))
            callers = [asyncio.create_task(keep_calling(one)) for _ in range(8)]
            await eventually(lambda: len(answers) > 30)
            leaving.send_signal(number)
            end = await follower.ended()
            assert end.code.name in {"UNAVAILABLE", "ABORTED"}
            assert end.reason in {"SHUTTING_DOWN", "STREAM_ENDED"}
            assert (await waiting).cursor
            await asyncio.wait_for(asyncio.gather(*callers), 30)
        # Calls in progress were answered, and refused calls had no effect. gRPC itself reports CANCELLED for a call
        # that crosses its GOAWAY.
        assert {refusal.code.name for refusal in refusals} <= {"UNAVAILABLE", "CANCELLED"}
        assert await _sessions_of(other, subject) == len(answers)
        assert await asyncio.to_thread(leaving.wait) == 0
        lines = [line for line in leaving.log_text().splitlines() if f"subject={subject} " in line]
        assert sum(" token.issued " in line for line in lines) >= len(answers)
        async with Follower(other, follower.cursor) as resumed:
            last = await other.revoke(subject="gone-on")
            await resumed.caught_up_to(last.cursor)
        assert resumed.resets == 0
        assert follower.sequences + resumed.sequences == list(range(start + 1, sequence(last.cursor) + 1))


async def _sessions_of(api: Api, subject: str) -> int:
    found, page_token = 0, ""
    while True:
        request = session_service_pb2.ListSessionsRequest(
            subject=subject, page_size=200, page_token=page_token
        )
        page = await api.sessions.ListSessions(request)
        found, page_token = found + len(page.sessions), page.next_page_token
        if not page_token:
            return found


async def _waits_for(api: Api, count: int) -> bool:
    return (await api.revoke(subject="counted", wait=0.2)).subscribers_connected == count


async def test_reload_in_the_last_moments_of_a_stop_does_not_make_it_a_failure() -> None:
    with Node() as node:
        node.send_signal(signal.SIGTERM)
        while node.running:
            with suppress(ProcessLookupError):
                node.send_signal(signal.SIGHUP)
        assert node.exit_code == 0

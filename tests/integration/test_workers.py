"""`--workers 3`: three correct processes on one port, and a parent that keeps them running."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial

import grpc
import psutil
import pytest

from tests.integration.calls import (
    ACCESS,
    ID,
    REFRESH,
    SESSION,
    STRONG,
    Api,
    Failure,
    Follower,
    refused,
    sequence,
)
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually, eventually_sync
from tests.support.processes import http_status
from token_service.v1 import key_service_pb2, session_service_pb2, token_service_pb2

WORKERS = 3


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
    }
    if request.param == "postgresql":
        env["TOKEN_SERVICE_DATABASE_URL"] = request.getfixturevalue("shared_postgres_url")
    with Node("--workers", str(WORKERS), env=env, ready_timeout=60) as node:
        eventually_sync(lambda: "is ready: gRPC" in node.log_text())
        yield node


async def connected_workers(node: Node) -> set[int]:
    """Return the workers with a connection of a caller."""
    port = int(node.grpc_address.rpartition(":")[2])

    def look() -> set[int]:
        return {
            worker
            for worker in node.children()
            for connection in psutil.Process(worker).net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        }

    return await asyncio.to_thread(look)


@pytest.fixture
async def apis(node: Node) -> AsyncIterator[list[Api]]:
    """Open enough connections to reach every worker; the kernel distributes them."""
    async with AsyncExitStack() as stack:
        apis: list[Api] = []

        async def reaches_all() -> bool:
            api = await stack.enter_async_context(Api(node.grpc_address))
            await api.channel.channel_ready()
            apis.append(api)
            return len(apis) >= 2 * WORKERS and len(await connected_workers(node)) == WORKERS

        await eventually(reaches_all)
        yield apis


def test_every_worker_is_ready(node: Node) -> None:
    assert len(node.children()) == WORKERS
    # A worker of a busy machine may be late with its note that it is ready.
    eventually_sync(lambda: {http_status(node.http_address, "/readyz") for _ in range(10)} == {200})
    for path in ("/startupz", "/livez", "/.well-known/jwks.json"):
        assert {http_status(node.http_address, path) for _ in range(10)} == {200}


async def test_every_worker_serves_every_call(apis: list[Api]) -> None:
    key_sets = [await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest()) for api in apis]
    assert len({key_set.key_set.keys[0].kid for key_set in key_sets}) == 1
    for api in apis:
        issued = await api.issue("walker", token_types=[ACCESS, REFRESH, ID, SESSION], nonce="n")
        tokens = [issued.access_token, issued.refresh_token, issued.id_token, issued.session_token]
        idle_expire_times: list[int] = []
        for other in apis:
            batch = token_service_pb2.BatchValidateTokensRequest(
                requests=[token_service_pb2.ValidateTokenRequest(token=token) for token in tokens]
            )
            answers = (await other.tokens.BatchValidateTokens(batch)).responses
            assert [answer.active for answer in answers] == [True] * 4
            request = session_service_pb2.GetSessionRequest(session_id=issued.session_id)
            found = (await other.sessions.GetSession(request)).session
            assert found.state == session_service_pb2.SESSION_STATE_ACTIVE
            idle_expire_times.append(found.idle_expire_time.seconds)
        one, another = apis[0], apis[-1]
        refreshed = await one.refresh(issued.refresh_token)
        assert (await another.refresh(issued.refresh_token)).refresh_token == refreshed.refresh_token
        extended = await another.sessions.ExtendSession(
            session_service_pb2.ExtendSessionRequest(session_id=issued.session_id, client_id="web")
        )
        assert extended.session.idle_expire_time.seconds >= max(idle_expire_times)
        listed = await one.sessions.ListSessions(session_service_pb2.ListSessionsRequest(subject="walker"))
        assert issued.session_id in {each.session_id for each in listed.sessions}
        await another.revoke(session_id=issued.session_id)
        for other in apis:
            assert await other.why(refreshed.access_token, consistency=STRONG) == "REVOKED"
            assert await other.why(issued.session_token) == "REVOKED"


async def test_a_revocation_reaches_every_worker(apis: list[Api]) -> None:
    async with AsyncExitStack() as stack:
        start = await apis[0].confirm("", "")
        followers = [await stack.enter_async_context(Follower(api, start)) for api in apis]
        issued = await apis[0].issue("gone")
        last = await apis[1].revoke(token=issued.access_token)
        for follower in followers:
            await follower.caught_up_to(last.cursor)
            assert [entry.token_id for entry in follower.entries] == [issued.token_id]
        for api in apis:
            await eventually(partial(_is_refused, api, issued.access_token))


async def _is_refused(api: Api, token: str) -> bool:
    return await api.why(token) == "REVOKED"


async def test_a_validator_may_follow_one_worker_and_confirm_at_another(apis: list[Api]) -> None:
    async with AsyncExitStack() as stack:
        for number, api in enumerate(apis):
            other = apis[(number + 1) % len(apis)]
            await stack.enter_async_context(Follower(api, "", f"validator-{number}", confirm=other))

        async def all_confirmed() -> bool:
            answer = await apis[0].revoke(subject="waited-for", wait=10)
            return answer.subscribers_connected == answer.subscribers_applied == len(apis)

        await eventually(all_confirmed)


async def test_a_killed_worker_is_replaced_while_the_service_continues(node: Node, apis: list[Api]) -> None:
    before = await apis[0].issue("survivor")
    await apis[0].revoke(token=before.access_token)
    victim = min(await connected_workers(node))
    siblings = set(node.children()) - {victim}
    os.kill(victim, signal.SIGKILL)

    async def serves_again(api: Api) -> bool:
        try:
            assert await api.why(before.access_token, consistency=STRONG) == "REVOKED"
            return (await api.refresh((await api.issue("survivor")).refresh_token)).refresh_token != ""
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017
            return False

    for api in apis:
        await eventually(partial(serves_again, api))

    def replaced() -> bool:
        children = set(node.children())
        return victim not in children and siblings <= children and len(children) == len(siblings) + 1

    await eventually(replaced)
    replacement = (set(node.children()) - siblings).pop()

    async def takes_part() -> bool:
        async with Api(node.grpc_address) as api:
            await api.issue("newcomer")
            return replacement in await connected_workers(node)

    await eventually(takes_part)
    assert node.running


async def test_no_worker_answers_ready_while_another_one_hangs(node: Node) -> None:
    await eventually(lambda: http_status(node.http_address, "/readyz") == 200)
    hung = min(node.children())
    os.kill(hung, signal.SIGSTOP)
    try:
        # A request may reach the port of the stopped worker, which does not answer.
        await eventually(lambda: http_status(node.http_address, "/readyz", timeout=1) == 503)
    finally:
        os.kill(hung, signal.SIGCONT)
    await eventually(lambda: http_status(node.http_address, "/readyz") == 200)


async def test_sigterm_finishes_calls_and_streams_of_all_workers(node: Node, apis: list[Api]) -> None:
    workers = [psutil.Process(pid) for pid in node.children()]
    async with AsyncExitStack() as stack:
        start = await apis[0].confirm("", "")
        followers = [await stack.enter_async_context(Follower(api, start)) for api in apis]
        last = await apis[0].revoke(subject="last")
        for follower in followers:
            await follower.caught_up_to(last.cursor)
        calls = [asyncio.create_task(_until_refused(api)) for api in apis]
        await asyncio.sleep(0)
        node.send_signal(signal.SIGTERM)
        for follower in followers:
            end = await follower.ended()
            assert (end.code.name, end.reason) in {
                ("UNAVAILABLE", "SHUTTING_DOWN"),
                ("ABORTED", "STREAM_ENDED"),
            }
        for failure in await asyncio.wait_for(asyncio.gather(*calls), 30):
            # gRPC itself reports CANCELLED for a call that crosses its GOAWAY.
            assert failure.code.name in {"UNAVAILABLE", "CANCELLED"}
    assert await asyncio.to_thread(node.wait) == 0
    assert not [worker for worker in workers if worker.is_running()]
    # After the next start every write is present, and streams resume from their cursors.
    await asyncio.to_thread(node.start)
    async with Api(node.grpc_address) as api, Follower(api, followers[0].cursor) as resumed:
        after = await api.revoke(subject="after")
        await resumed.caught_up_to(after.cursor)
        assert resumed.resets == 0
        assert resumed.sequences == list(range(sequence(followers[0].cursor) + 1, sequence(after.cursor) + 1))


async def _until_refused(api: Api) -> Failure:
    while True:
        try:
            await api.issue("till-the-end")
        except grpc.aio.AioRpcError as error:
            return Failure.of(error)


async def test_workers_end_with_their_parent(node: Node) -> None:
    """A killed parent leaves no worker that holds the port without supervision."""
    workers = [psutil.Process(pid) for pid in node.children()]
    os.kill(node.pid, signal.SIGKILL)
    await asyncio.to_thread(node.wait)
    await eventually(
        lambda: (
            not [
                worker
                for worker in workers
                if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
            ]
        ),
    )
    await asyncio.to_thread(node.start)
    async with Api(node.grpc_address) as api:
        assert (await api.issue()).access_token
        assert (await refused(api.refresh("rt_x"))).reason == "REFRESH_TOKEN_INVALID"

"""Concurrent refreshes of one token at two nodes: one successor, the same for all, and no error."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.integration.calls import STRONG, Api, refused
from tests.integration.nodes import Node, nodes
from token_service.v1 import session_service_pb2

ROUNDS = int(os.environ.get("TOKEN_SERVICE_TEST_REFRESH_ROUNDS", "200"))
CALLERS = 64


@pytest.fixture(scope="module")
def pair(database_url: str) -> Iterator[list[Node]]:
    env = {
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        # Longer than any round on the slowest machine, so that every caller is within the grace period.
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "5m",
    }
    with nodes(2, env) as pair:
        yield pair


@pytest.mark.timeout(600)
async def test_all_callers_hold_the_same_successor(pair: list[Node]) -> None:
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(Api(pair[n % 2].grpc_address)) for n in range(4)]
        issued = await apis[0].issue("busy")
        token = issued.refresh_token
        access_token = issued.access_token
        newest: list[str] = []
        for number in range(ROUNDS):
            answers = await asyncio.gather(*(apis[n % 4].refresh(token) for n in range(CALLERS)))
            successors = {answer.refresh_token for answer in answers}
            assert len(successors) == 1, f"{len(successors)} successors in round {number}"
            assert {answer.session_id for answer in answers} == {issued.session_id}
            assert len({answer.token_id for answer in answers}) == CALLERS
            newest = [answer.access_token for answer in answers]
            (successor,) = successors
            assert successor != token
            token = successor
        # The original access token is still active, and so are the newest ones.
        assert await apis[1].why(access_token) == ""
        assert {await apis[n].why(newest[n]) for n in range(4)} == {""}
        request = session_service_pb2.GetSessionRequest(session_id=issued.session_id)
        session = (await apis[1].sessions.GetSession(request)).session
        assert session.generation == ROUNDS
        assert session.state == session_service_pb2.SESSION_STATE_ACTIVE


async def test_using_a_successor_ends_the_grace_period_of_older_tokens(pair: list[Node]) -> None:
    """Presenting a token two generations old is reuse, also concurrently, and revokes the family once."""
    async with Api(pair[0].grpc_address) as a, Api(pair[1].grpc_address) as b:
        first = (await a.issue("stolen")).refresh_token
        second = (await b.refresh(first)).refresh_token
        third = (await a.refresh(second)).refresh_token
        head = await a.confirm("", "")
        failures = await asyncio.gather(*(refused((a, b)[n % 2].refresh(first)) for n in range(32)))
        assert {failure.reason for failure in failures} <= {"REFRESH_TOKEN_REUSED", "SESSION_REVOKED"}
        assert "REFRESH_TOKEN_REUSED" in {failure.reason for failure in failures}
        assert (await refused(b.refresh(third))).reason == "SESSION_REVOKED"
        assert int((await b.confirm("", "")).rpartition(":")[2]) == int(head.rpartition(":")[2]) + 1


async def test_retries_beyond_the_cap_are_refused_and_keep_the_session(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as a, Api(pair[1].grpc_address) as b:
        first = (await a.issue("impatient")).refresh_token
        second = (await a.refresh(first)).refresh_token
        calls = [(a, b)[n % 2].refresh(first) for n in range(140)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        good = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(good) == 100
        assert {answer.refresh_token for answer in good} == {second}
        failure = await refused(b.refresh(first))
        assert (failure.code.name, failure.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_RETRIES")
        assert failure.retry_after
        assert (await a.refresh(second)).refresh_token


async def test_concurrent_revoke_and_refresh_leave_no_live_successor(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as a, Api(pair[1].grpc_address) as b:
        for number in range(20):
            issued = await a.issue(f"leaving-{number}")
            answers = await asyncio.gather(
                *(a.refresh(issued.refresh_token) for _ in range(4)),
                b.revoke(session_id=issued.session_id)
                if number % 2
                else b.revoke(subject=f"leaving-{number}"),
                *(b.refresh(issued.refresh_token) for _ in range(4)),
                return_exceptions=True,
            )
            tokens = {issued.refresh_token}
            tokens |= {answer.refresh_token for answer in answers if hasattr(answer, "refresh_token")}
            for token in tokens:
                assert (await refused(a.refresh(token))).reason == "SESSION_REVOKED"


async def test_concurrent_issue_and_revoke_leave_every_token_of_a_session_alike(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as a, Api(pair[1].grpc_address) as b:
        for number in range(20):
            subject = f"torn-{number}"
            issuing = asyncio.gather(*((a, b)[n % 2].issue(subject) for n in range(8)))
            issued, _ = await asyncio.gather(issuing, b.revoke(subject=subject))
            for each in issued:
                access = await a.why(each.access_token, consistency=STRONG)
                assert access in ("", "REVOKED")
                assert await b.why(each.refresh_token) == access
                if access:
                    assert (await refused(a.refresh(each.refresh_token))).reason == "SESSION_REVOKED"
                else:
                    again = await a.refresh(each.refresh_token)
                    assert await b.why(again.access_token, consistency=STRONG) == ""

"""Acknowledged writes survive `kill -9` of the service and of PostgreSQL; callers can repeat unanswered calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest

from tests.integration.calls import STRONG, Api, Failure, Follower, refused, sequence
from tests.integration.nodes import Node, key_encryption_key, nodes
from tests.support.deadline import eventually
from tests.support.postgres import PostgresServer
from tests.support.processes import http_status

TYPED = {"STORE_UNAVAILABLE", "REPLICA_STALE", "SHUTTING_DOWN", "OVERLOADED", "DEADLINE_EXCEEDED"}


@dataclass
class Acknowledged:
    """The answers that callers got, and their unanswered calls."""

    access_tokens: list[str] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    """By session: the newest refresh token of its owner."""
    revoked_tokens: list[str] = field(default_factory=list)
    revoked_sessions: dict[str, str] = field(default_factory=dict)
    """By session: one of its refresh tokens."""
    in_doubt: set[str] = field(default_factory=set)
    """Sessions whose revocation was not answered."""
    cursors: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    async def keep_busy(self, api: Api, name: str) -> None:
        """Issue, refresh and revoke until cancelled; after a failure continue with the known tokens."""
        for number in range(1_000_000):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._round(api, f"{name}-{number}")

    async def _round(self, api: Api, subject: str) -> None:
        try:
            issued = await api.issue(subject)
            self.access_tokens.append(issued.access_token)
            self.sessions[issued.session_id] = issued.refresh_token
            for _ in range(2):
                refreshed = await api.refresh(self.sessions[issued.session_id])
                self.sessions[issued.session_id] = refreshed.refresh_token
            self.cursors.append((await api.revoke(token=issued.access_token)).cursor)
            self.revoked_tokens.append(issued.access_token)
            other = await api.issue(subject)
            self.in_doubt.add(other.session_id)
            self.cursors.append((await api.revoke(session_id=other.session_id)).cursor)
            self.in_doubt.discard(other.session_id)
            self.revoked_sessions[other.session_id] = other.refresh_token
        except grpc.aio.AioRpcError as error:
            self.failures.append(Failure.of(error))
            await asyncio.sleep(0.01)
            raise

    async def assert_all_there(self, api: Api) -> None:
        """Check that each acknowledged revocation refuses and that each owner can use its token."""
        assert self.sessions
        assert self.revoked_tokens
        assert self.revoked_sessions
        for token in self.revoked_tokens:
            assert await api.why(token, consistency=STRONG) == "REVOKED"
        for token in self.revoked_sessions.values():
            assert (await refused(api.refresh(token))).reason == "SESSION_REVOKED"
        # A rotation whose answer was lost may have superseded the token: the same call returns the successor.
        for session_id, token in self.sessions.items():
            refreshed = await api.refresh(token)
            assert refreshed.session_id == session_id
            assert (await api.refresh(refreshed.refresh_token)).refresh_token


SETTINGS = {"TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "5m"}


@pytest.fixture(scope="module")
def node(database_url: str) -> Iterator[Node]:
    with nodes(1, {"TOKEN_SERVICE_DATABASE_URL": database_url, **SETTINGS}) as (node,):
        yield node


async def crash(node: Node) -> None:
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)


async def load(acknowledged: Acknowledged, api: Api, enough: int) -> list[asyncio.Task[None]]:
    """Start callers and return once `enough` revocations are acknowledged."""
    callers = [asyncio.create_task(acknowledged.keep_busy(api, f"caller-{n}")) for n in range(8)]
    await eventually(lambda: len(acknowledged.cursors) >= enough)
    return callers


async def stop(callers: list[asyncio.Task[None]]) -> None:
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)


async def test_a_crash_under_load_loses_no_acknowledged_write(node: Node) -> None:
    async with Api(node.grpc_address) as api:
        start = await api.confirm("", "")
        acknowledged = Acknowledged()
        callers = await load(acknowledged, api, 100)
        await crash(node)
        await eventually(lambda: len(acknowledged.cursors) >= 150)
        await stop(callers)
        assert acknowledged.failures
        assert {failure.code.name for failure in acknowledged.failures} == {"UNAVAILABLE"}
        await acknowledged.assert_all_there(api)
        # The log continues with the same epoch and without a gap around the crash.
        async with Follower(api, start) as follower:
            last = max(acknowledged.cursors, key=sequence)
            await follower.caught_up_to(last)
        assert follower.resets == 0
        assert follower.sequences == list(range(sequence(start) + 1, sequence(follower.cursor) + 1))


async def test_a_crash_right_after_an_answer_loses_no_write(node: Node) -> None:
    async with Api(node.grpc_address) as api:
        issued, other, subject = await api.issue("first"), await api.issue("second"), await api.issue("third")
        refreshed = await api.refresh(issued.refresh_token)
        await api.revoke(token=other.access_token)
        await api.revoke(subject="third")
        await crash(node)
        again = await api.issue("third")
        assert await api.why(other.access_token) == "REVOKED"
        assert await api.why(subject.access_token) == "REVOKED"
        assert await api.why(again.access_token) == ""
        assert (await refused(api.refresh(subject.refresh_token))).reason == "SESSION_REVOKED"
        assert await api.why(issued.refresh_token) == "SUPERSEDED"
        # A caller that lost the answer repeats the call and gets the same successor.
        assert (await api.refresh(issued.refresh_token)).refresh_token == refreshed.refresh_token
        assert (await api.refresh(refreshed.refresh_token)).session_id == issued.session_id


async def test_a_refresh_whose_answer_was_lost_succeeds_when_retried(node: Node) -> None:
    async with Api(node.grpc_address) as api, Api(node.grpc_address) as doomed:
        issued = [await api.issue(f"cut-off-{n}") for n in range(12)]
        calls = [asyncio.ensure_future(doomed.refresh(each.refresh_token)) for each in issued]
        # Some calls have been served, some are in progress, some have not arrived.
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await crash(node)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for each, answer in zip(issued, answers, strict=True):
            retried = await api.refresh(each.refresh_token)
            assert retried.session_id == each.session_id
            if not isinstance(answer, BaseException):
                assert retried.refresh_token == answer.refresh_token
            assert (await api.refresh(retried.refresh_token)).refresh_token


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def exposed(own_postgres: PostgresServer) -> Iterator[Node]:
    """A node whose PostgreSQL will be stopped, killed or paused."""
    env = {
        "TOKEN_SERVICE_DATABASE_URL": own_postgres.create_database(),
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_REPLICA_MAX_AGE": "2s",
        **SETTINGS,
    }
    with Node(env=env) as node:
        yield node


@pytest.mark.parametrize("accident", ["restart", "kill", "pause"])
async def test_an_outage_of_postgres_under_load_loses_no_acknowledged_write(
    own_postgres: PostgresServer, exposed: Node, accident: str
) -> None:
    async with Api(exposed.grpc_address) as api:
        acknowledged = Acknowledged()
        follower = Follower(api, await api.confirm("", ""))
        start = sequence(follower.cursor)
        async with follower:
            callers = await load(acknowledged, api, 30)
            local = acknowledged.access_tokens[0]
            match accident:
                case "restart":
                    await asyncio.to_thread(own_postgres.stop)
                case "kill":
                    await asyncio.to_thread(own_postgres.kill)
                case "pause":
                    own_postgres.pause()
            try:
                # Callers get the reason in a bounded time, and the node is not ready.
                await eventually(lambda: len(acknowledged.failures) >= 8)
                await eventually(lambda: http_status(exposed.http_address, "/readyz") == 503)
                assert http_status(exposed.http_address, "/healthz") == 200

                async def stale() -> bool:
                    # Validation without the database continues while the replica is young enough.
                    try:
                        await api.validate(local)
                    except grpc.aio.AioRpcError as error:
                        assert Failure.of(error).reason == "REPLICA_STALE"  # noqa: PT017
                        return True
                    return False

                await eventually(stale)
                failure = await refused(api.validate(local, consistency=STRONG))
                assert (failure.code.name, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
            finally:
                if accident == "pause":
                    own_postgres.resume()
                else:
                    await asyncio.to_thread(own_postgres.start)
            known = len(acknowledged.cursors)
            await eventually(lambda: len(acknowledged.cursors) >= known + 20)
            await eventually(lambda: http_status(exposed.http_address, "/readyz") == 200)
            await stop(callers)
            assert {failure.code.name for failure in acknowledged.failures} <= {
                "UNAVAILABLE",
                "DEADLINE_EXCEEDED",
            }
            assert {failure.reason for failure in acknowledged.failures} <= TYPED
            assert "STORE_UNAVAILABLE" in {failure.reason for failure in acknowledged.failures}
            await acknowledged.assert_all_there(api)
            # The stream stayed open and missed no entry.
            await follower.caught_up_to(max(acknowledged.cursors, key=sequence))
        assert follower.resets == 0
        assert follower.sequences == list(range(start + 1, sequence(follower.cursor) + 1))

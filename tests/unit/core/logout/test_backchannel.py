"""Back-channel logout (OpenID Connect Back-Channel Logout 1.0) of a node on stores in memory.

Invariant: the client of every session that a revocation ends is told at least once, at any crash of the nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jwt
import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, SomeStores, raising
from tests.unit.core.virtual_time import LoopClock, cancelled, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.administration.subjects.erasure import EraseCommand
from token_service.core.clients.client import ClientMetadata, SubjectType
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.logout.backchannel import INTERVAL, LEASE_TTL
from token_service.core.logout.delivering import (
    LOGOUT_MAX_AGE,
    LOGOUTS_PER_CLIENT,
    ReceiverUnreachableError,
    delay_after,
)
from token_service.core.logout.planner import MAX_SESSIONS_TOLD
from token_service.errors import RefreshTokenReusedError, SigningUnavailableError, StoreUnavailableError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID})
SOON = 1.0
"""Seconds in which a reachable client is told."""


class Receivers:
    """The clients: what they were sent, and how they answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str, str]] = []
        """Time, host and token."""
        self.respond: dict[str, Callable[[], Awaitable[int]]] = {}
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def send(self, uri: str, token: str) -> int:
        host = uri.split("/")[2].split(".", maxsplit=1)[0]
        self.sent.append((asyncio.get_running_loop().time(), host, token))
        self.running[host] = self.running.get(host, 0) + 1
        self.most[host] = max(self.most.get(host, 0), self.running[host])
        try:
            return await self.respond[host]() if host in self.respond else 200
        finally:
            self.running[host] -= 1

    def told(self, host: str) -> list[str]:
        """Return the sessions that a client was told of, in order."""
        return [claims_of(token)["sid"] for _, each, token in self.sent if each == host]

    def times(self, host: str) -> list[float]:
        return [time for time, each, _ in self.sent if each == host]


class DamagedLog:
    """A log whose first entry about a session has lost its value, as the planner reads it."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.damaged = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, after: int, limit: int) -> list[Revocation]:
        entries = list(await self._log.read(after, limit))
        if self.damaged and entries and entries[0].sequence == 1:
            entries[0] = replace(entries[0], value="damaged")
        return entries


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def away() -> int:
    raise ReceiverUnreachableError("no connection")


async def slow() -> int:
    await asyncio.sleep(5)
    raise ReceiverUnreachableError("no answer in 5 seconds")


def answering(status: int) -> Callable[[], Awaitable[int]]:
    async def answer() -> int:
        return status

    return answer


async def start(receivers: Receivers, **options: Any) -> Node[LoopClock]:
    """Return a node with the clients `app` and `other`, which are told, and `quiet`, which is not."""
    node = await Node(LoopClock(), send_logout=receivers.send, max_staleness=1e12, **options).start()
    for client_id in ("app", "other", "quiet"):
        if node.core.clients.get(client_id) is None:
            uri = "" if client_id == "quiet" else f"https://{client_id}.example/logout"
            await register(node, client_id, backchannel_logout_uri=uri)
    return node


async def register(node: Node[LoopClock], client_id: str, **metadata: Any) -> None:
    await node.core.client_administration.create(
        Caller.system(), client_id, ClientMetadata(**metadata), node.clock.now()
    )


async def issue(node: Node[LoopClock], client_id: str = "app", subject: str = "alice") -> IssuedTokens:
    return await node.issue(subject, client_id, scopes=("openid",), kinds=KINDS)


async def revoke(node: Node[LoopClock], session: IssuedTokens) -> None:
    await node.revoke(
        target=RevocationTarget.SESSION, value=session.session_id, reason=RevocationReason.LOGOUT
    )


@asynccontextmanager
async def running(node: Node[LoopClock]) -> AsyncIterator[None]:
    assert node.core.backchannel_logout is not None
    task = asyncio.create_task(node.core.backchannel_logout.run())
    try:
        yield
    finally:
        await cancelled(task)


@virtual_time
async def test_client_gets_a_signed_logout_token_of_its_session() -> None:
    receivers = Receivers()
    node = await start(receivers, algorithm=Algorithm.ES256)
    session = await issue(node)
    async with running(node):
        await asyncio.sleep(SOON)
        assert receivers.sent == []
        await revoke(node, session)
        await asyncio.sleep(SOON)
    ((_, host, token),) = receivers.sent
    assert host == "app"
    header = jwt.get_unverified_header(token)
    key = next(key for key in node.keyring.jwks if key["kid"] == header["kid"])
    claims = jwt.decode(
        token,
        jwt.PyJWK(dict(key)).key,
        algorithms=["ES256"],
        audience="app",
        issuer="https://issuer.example",
        options={"verify_iat": False, "verify_exp": False},
    )
    now = claims["iat"]
    assert header["typ"] == "logout+jwt"
    assert claims == {
        "iss": "https://issuer.example",
        "sub": "alice",
        "aud": "app",
        "iat": now,
        "exp": now + 120,
        "jti": claims["jti"],
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        "sid": session.session_id,
    }
    assert node.clock.now() - 2 * SOON <= now <= node.clock.now()
    assert node.stores.logouts.deliveries == {}
    assert node.logout_outcomes == ["sent"]
    found = await node.validate(token)
    assert found.reason is not None  # a logout token is no token for anything else
    assert found.reason.value == "WRONG_TYPE"


@pytest.mark.parametrize(
    ("target", "value", "told"),
    [
        (RevocationTarget.SUBJECT, "alice", {"app": 2, "other": 1}),
        (RevocationTarget.CLIENT, "app", {"app": 3, "other": 0}),
        (RevocationTarget.CLIENT, "quiet", {"app": 0, "other": 0}),
        (RevocationTarget.EVERYTHING, "", {"app": 3, "other": 2}),
        (RevocationTarget.TOKEN_ID, "x", {"app": 0, "other": 0}),
    ],
)
@virtual_time
async def test_each_session_that_a_revocation_ends_is_told(
    target: RevocationTarget, value: str, told: dict[str, int]
) -> None:
    receivers = Receivers()
    node = await start(receivers)
    for client_id, subject in (
        ("app", "alice"),
        ("app", "alice"),
        ("app", "bob"),
        ("other", "alice"),
        ("other", "bob"),
        ("quiet", "alice"),
    ):
        await issue(node, client_id, subject)
    async with running(node):
        await node.revoke(target=target, value=value)
        await asyncio.sleep(SOON)
        await issue(node)  # began after the revocation
        await asyncio.sleep(SOON)
    assert {host: len(receivers.told(host)) for host in told} == told
    assert len(set(receivers.told("app"))) == told["app"]
    assert node.logout_outcomes == ["sent"] * sum(told.values())


@virtual_time
async def test_session_that_had_ended_before_is_not_told_again() -> None:
    receivers = Receivers()
    node = await start(receivers)
    sessions = [await issue(node) for _ in range(2)]
    async with running(node):
        await revoke(node, sessions[0])
        await asyncio.sleep(SOON)
        await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
        await asyncio.sleep(SOON)
    assert receivers.told("app") == [each.session_id for each in sessions]


@virtual_time
async def test_reuse_of_a_refresh_token_is_told() -> None:
    receivers = Receivers()
    node = await start(receivers)
    session = await issue(node)
    async with running(node):
        await node.refresh(session.refresh_token, "app")
        await asyncio.sleep(120)
        with pytest.raises(RefreshTokenReusedError):
            await node.refresh(session.refresh_token, "app")
        await asyncio.sleep(SOON)
    assert receivers.told("app") == [session.session_id]


@virtual_time
async def test_pairwise_client_learns_the_sub_of_its_id_tokens() -> None:
    receivers = Receivers()
    node = await start(receivers, pairwise_key=Secret(b"k" * 32), sectors=object())
    await register(
        node,
        "pair",
        subject_type=SubjectType.PAIRWISE,
        redirect_uris=("https://pair.example/cb",),
        backchannel_logout_uri="https://pair.example/logout",
    )
    session = await issue(node, "pair")
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(SOON)
    ((*_, token),) = receivers.sent
    assert claims_of(token)["sub"] == claims_of(session.id_token)["sub"] != "alice"


@pytest.mark.parametrize("failing", [away, answering(503), answering(400)])
@virtual_time
async def test_failed_delivery_is_repeated_with_growing_delays(failing: Callable[[], Awaitable[int]]) -> None:
    receivers = Receivers()
    node = await start(receivers)
    session = await issue(node)
    receivers.respond["app"] = failing
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(40)
        assert receivers.told("app") == [session.session_id] * 4
        times = receivers.times("app")
        for attempts, (before, after) in enumerate(pairwise(times), 1):
            assert delay_after(attempts) <= after - before <= delay_after(attempts) + SOON
        assert node.core.backchannel_logout is not None
        assert node.core.backchannel_logout.backlog.count == 1
        del receivers.respond["app"]
        await asyncio.sleep(60)
    assert len(receivers.sent) == 5
    tokens = [claims_of(token) for *_, token in receivers.sent]
    assert len({each["jti"] for each in tokens}) == 5
    assert tokens[4]["iat"] > tokens[3]["iat"]
    assert node.logout_outcomes == ["failed"] * 4 + ["sent"]
    assert node.stores.logouts.deliveries == {}


@virtual_time
async def test_delivery_is_given_up_after_a_day() -> None:
    receivers = Receivers()
    node = await start(receivers)
    session = await issue(node)
    receivers.respond["app"] = away
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(LOGOUT_MAX_AGE + 3700)
        assert node.stores.logouts.deliveries == {}
        assert (node.logout_outcomes[-1], len(node.logout_outcomes) < 35) == ("given_up", True)
        assert max(receivers.times("app")) <= LOGOUT_MAX_AGE + SOON


@virtual_time
async def test_slow_client_delays_no_other_client() -> None:
    receivers = Receivers()
    node = await start(receivers)
    receivers.respond["app"] = slow
    async with running(node):
        for number in range(50):
            await revoke(node, await issue(node, subject=f"user-{number}"))
        await asyncio.sleep(SOON)
        began = asyncio.get_running_loop().time()
        await revoke(node, await issue(node, "other"))
        await asyncio.sleep(SOON)
        assert receivers.times("other")[0] - began < SOON
        assert receivers.most["app"] == LOGOUTS_PER_CLIENT
        await asyncio.sleep(20)
        assert len(receivers.told("app")) <= 4 * LOGOUTS_PER_CLIENT  # one group for each delay, not fifty
        del receivers.respond["app"]
        await asyncio.sleep(delay_after(4))
    assert len(set(receivers.told("app"))) == 50
    assert node.stores.logouts.deliveries == {}


@virtual_time
async def test_client_that_refuses_one_token_gets_the_others() -> None:
    receivers = Receivers()
    node = await start(receivers)
    receivers.respond["app"] = answering(400)
    async with running(node):
        for number in range(9):
            await revoke(node, await issue(node, subject=f"user-{number}"))
        await asyncio.sleep(SOON)
    assert len(set(receivers.told("app"))) == 9


@virtual_time
async def test_defect_at_one_logout_delays_no_other(caplog: pytest.LogCaptureFixture) -> None:
    receivers = Receivers()
    node = await start(receivers)
    sessions = [await issue(node, subject=f"user-{number}") for number in range(9)]
    other = await issue(node, "other")
    faulty, mint, tried = sessions[0].session_id, node.minter.logout_token, list[float]()

    async def token(client_id: str, subject: str, session_id: str, now: float) -> str:
        if session_id == faulty:
            tried.append(now)
            raise KeyError("sub")
        return await mint(client_id, subject, session_id, now)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(node.minter), "logout_token", staticmethod(token))
        async with running(node):
            for each in (*sessions, other):
                await revoke(node, each)
            await asyncio.sleep(SOON)
            assert set(receivers.told("app")) == {each.session_id for each in sessions[1:]}
            assert receivers.told("other") == [other.session_id]
            await asyncio.sleep(20)
    assert [round(later - tried[0]) for later in tried] == [0, 2, 8]
    assert [each.levelname for each in caplog.records].count("ERROR") == 1
    assert f"the logout of session {faulty} can't be sent to client app" in caplog.text
    async with running(node):
        await asyncio.sleep(60)
    assert faulty in receivers.told("app")


@virtual_time
async def test_revocation_that_names_no_session_stops_none_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receivers = Receivers()
    stores = MemoryStores(LoopClock())
    log = DamagedLog(stores.log)
    node = await start(receivers, stores=SomeStores.of(stores, log=log), log=log)
    first, second = await issue(node), await issue(node)
    async with running(node):
        log.damaged = True
        await revoke(node, first)
        await revoke(node, second)
        await asyncio.sleep(SOON)
    assert receivers.told("app") == [second.session_id]
    assert "names no session, so no client is told of it" in caplog.text


@virtual_time
async def test_unexpected_error_does_not_end_the_back_channel(caplog: pytest.LogCaptureFixture) -> None:
    receivers = Receivers()
    stores = MemoryStores(LoopClock())
    logouts = Intercepted(stores.logouts)
    node = await start(receivers, stores=SomeStores.of(stores, logouts=logouts))
    session = await issue(node)
    logouts.before["due"] = raising(KeyError("attempts"))
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(30)
        logouts.before.clear()
        await asyncio.sleep(10)
    assert receivers.told("app") == [session.session_id]
    assert caplog.text.count("logouts can't be delivered, trying again: unexpected KeyError") == 1


@virtual_time
async def test_revocation_of_a_node_that_was_killed_is_told_by_another() -> None:
    receivers = Receivers()
    node = await start(receivers)
    session = await issue(node)
    await revoke(node, session)  # its background tasks never run again
    other = await start(receivers, stores=node.stores, node_id="node-2", seed=2)
    async with running(other):
        await asyncio.sleep(SOON)
    assert receivers.told("app") == [session.session_id]


@virtual_time
async def test_another_node_takes_over_from_one_that_was_killed_while_it_delivered() -> None:
    receivers, stuck = Receivers(), Receivers()
    stores = MemoryStores(LoopClock())
    released = Intercepted(stores.leases)
    node = await start(stuck, stores=SomeStores.of(stores, leases=released))
    session = await issue(node)

    async def forever() -> int:
        await asyncio.Event().wait()
        return 200

    async def fails() -> None:
        raise asyncio.CancelledError  # the lease stays

    released.before["release"] = fails
    stuck.respond["app"] = forever
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(SOON)
        assert stuck.told("app") == [session.session_id]
    began = asyncio.get_running_loop().time()
    other = await start(receivers, stores=stores, node_id="node-2", seed=2)
    async with running(other):
        await asyncio.sleep(LEASE_TTL + INTERVAL + SOON)
    assert receivers.told("app") == [session.session_id]
    assert receivers.times("app")[0] - began > SOON


@virtual_time
async def test_two_nodes_tell_once() -> None:
    receivers = Receivers()
    node = await start(receivers)
    other = await start(receivers, stores=node.stores, node_id="node-2", seed=2)
    sessions = [await issue(node) for _ in range(20)]
    async with running(node), running(other):
        for number, session in enumerate(sessions):
            await revoke(node if number % 2 else other, session)
        await asyncio.sleep(2 * INTERVAL)
    assert sorted(receivers.told("app")) == sorted(each.session_id for each in sessions)


@virtual_time
async def test_wide_revocation_tells_a_bounded_number_of_the_newest_sessions() -> None:
    receivers = Receivers()
    node = await start(receivers)
    sessions = []
    for _ in range(MAX_SESSIONS_TOLD + 5):
        sessions.append((await issue(node)).session_id)
        node.clock.skew += 1
    async with running(node):
        await node.revoke(target=RevocationTarget.CLIENT, value="app")
        await asyncio.sleep(30)
    assert sorted(receivers.told("app")) == sorted(sessions[5:])


@virtual_time
async def test_database_is_not_used_while_no_client_is_told() -> None:
    receivers = Receivers()
    stores = MemoryStores(LoopClock())
    leases, logouts = Intercepted(stores.leases), Intercepted(stores.logouts)
    ports = SomeStores.of(stores, leases=leases, logouts=logouts)
    node = await Node(LoopClock(), stores=ports, send_logout=receivers.send, max_staleness=1e12).start()
    await register(node, "quiet")
    leases.calls.clear()
    async with running(node):
        await revoke(node, await issue(node, "quiet"))
        await asyncio.sleep(3 * INTERVAL)
        assert [*leases.calls, *logouts.calls] == []
        await register(node, "app", backchannel_logout_uri="https://app.example/logout")
        await revoke(node, session := await issue(node))
        await asyncio.sleep(INTERVAL + SOON)
    assert receivers.told("app") == [session.session_id]


@virtual_time
async def test_client_without_a_uri_any_more_is_given_up() -> None:
    receivers = Receivers()
    node = await start(receivers)
    receivers.respond["app"] = away
    session = await issue(node)
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(SOON)
        await node.core.client_administration.delete(Caller.system(), "app", node.clock.now())
        await asyncio.sleep(10)
    assert node.logout_outcomes == ["failed", "given_up"]


@virtual_time
async def test_node_that_can_not_sign_tries_again_without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    receivers = Receivers()
    node = await start(receivers)
    session = await issue(node)
    asked = 0

    async def no_key() -> None:
        nonlocal asked
        asked += 1
        raise SigningUnavailableError

    async with running(node):
        await revoke(node, session)
        with monkeypatch.context() as patched:
            patched.setattr(node.keyring, "ready", no_key)
            await asyncio.sleep(10)
        assert 5 <= asked <= 10
        await asyncio.sleep(2 * SOON)
    assert receivers.told("app") == [session.session_id]
    assert node.logout_outcomes == ["sent"]


@virtual_time
async def test_database_that_is_away_loses_no_logout() -> None:
    receivers = Receivers()
    stores = MemoryStores(LoopClock())
    logouts = Intercepted(stores.logouts)
    node = await start(receivers, stores=SomeStores.of(stores, logouts=logouts))
    session = await issue(node)
    for method in ("plan", "due", "finish"):
        logouts.before[method] = raising(StoreUnavailableError())
    async with running(node):
        await revoke(node, session)
        await asyncio.sleep(10)
        assert receivers.sent == []
        del logouts.before["plan"], logouts.before["due"]
        await asyncio.sleep(10)
        assert set(receivers.told("app")) == {session.session_id}  # sent, but not noted
        assert node.logout_outcomes == []
        logouts.before.clear()
        await asyncio.sleep(10)
    assert node.logout_outcomes == ["sent"]
    assert stores.logouts.deliveries == {}


@virtual_time
async def test_client_is_told_of_the_sessions_of_an_erased_subject() -> None:
    """No node plans logouts while the subject is erased, and the rows that the planner reads are gone afterwards."""
    receivers = Receivers()
    node = await start(receivers)
    tokens = await issue(node)
    await issue(node, "quiet")
    await issue(node, subject="bob")
    erasure, page_token = node.core.subject_erasure, ""
    while True:
        command = EraseCommand(subject="alice", page_token=page_token)
        erased = await erasure.erase(Caller.system(), command, node.clock.now())
        page_token = erased.next_page_token
        if not page_token:
            break
    assert erased.data.sessions == 2
    assert receivers.sent == []
    async with running(node):
        await asyncio.sleep(SOON)
    assert receivers.told("app") == [tokens.session_id]

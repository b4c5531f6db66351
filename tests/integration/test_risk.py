"""Rules about risk at two real nodes, on every database: owners keep their sessions, and thieves get nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.integration.calls import Api, Failure, refused
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.files import rewrite
from token_service.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    session_service_pb2,
    token_pb2,
    token_service_pb2,
)

HOME = token_pb2.ClientContext(ip_address="192.0.2.10", user_agent="Firefox/120")
ABROAD = token_pb2.ClientContext(ip_address="203.0.113.30", user_agent="curl/8")
REFUSING = """
[classifications.internal]
grace_period = "5m"

[risk.rules.new_network]
weight = 20

[risk.rules.new_device]
weight = 30

[risk.thresholds.default]
refuse = 50
"""


class Pair:
    """Two nodes of one database with one policy file."""

    def __init__(self, both: list[Node], file: Path) -> None:
        self.nodes = both
        self.file = file
        self._number = 0

    async def reload(self, text: str) -> None:
        """Put another policy file in force at both nodes."""
        before = [node.log_text().count("the policies were reloaded") for node in self.nodes]
        self._number += 1
        rewrite(self.file, f"{text}\n# {self._number}")  # equal content is not read again

        def has_reloaded() -> bool:
            after = [node.log_text().count("the policies were reloaded") for node in self.nodes]
            return all(now > then for now, then in zip(after, before, strict=True))

        await eventually(has_reloaded)


@pytest.fixture(scope="module")
def pair(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    file = tmp_path_factory.mktemp("policies") / "policy.toml"
    file.write_text(REFUSING)
    env = {"TOKEN_SERVICE_DATABASE_URL": database_url, "TOKEN_SERVICE_POLICY_FILE": str(file)}
    with nodes(2, env) as both:
        yield Pair(both, file)


async def test_owner_refreshes_and_thief_is_refused_at_both_nodes_at_once(pair: Pair) -> None:
    await pair.reload(REFUSING)
    async with Api(pair.nodes[0].grpc_address) as a, Api(pair.nodes[1].grpc_address) as b:
        token = (await a.issue("owner", client_context=HOME)).refresh_token
        for _ in range(10):
            answers = await asyncio.gather(
                *((a, b)[n % 2].refresh(token, client_context=(HOME, ABROAD)[n // 2 % 2]) for n in range(16)),
                return_exceptions=True,
            )
            owned = [answer for n, answer in enumerate(answers) if n // 2 % 2 == 0]
            stolen = [answer for n, answer in enumerate(answers) if n // 2 % 2 == 1]
            successors = {
                answer.refresh_token
                for answer in owned
                if isinstance(answer, token_service_pb2.RefreshTokenResponse)
            }
            assert not any(isinstance(answer, BaseException) for answer in owned)
            assert len(successors) == 1
            reasons = set()
            for failure in stolen:
                assert isinstance(failure, grpc.aio.AioRpcError)
                reasons.add((failure.code().name, Failure.of(failure).reason))
            assert reasons == {("PERMISSION_DENIED", "RISK_REFUSED")}
            (token,) = successors


async def test_extension_from_elsewhere_is_refused(pair: Pair) -> None:
    await pair.reload(REFUSING)
    async with Api(pair.nodes[0].grpc_address) as a:
        issued = await a.issue("extended", client_context=HOME)

        def extension(context: token_pb2.ClientContext) -> session_service_pb2.ExtendSessionRequest:
            return session_service_pb2.ExtendSessionRequest(
                session_id=issued.session_id, client_id="web", client_context=context
            )

        failure = await refused(a.sessions.ExtendSession(extension(ABROAD)))
        assert (failure.code.name, failure.reason) == ("PERMISSION_DENIED", "RISK_REFUSED")
        assert (await a.sessions.ExtendSession(extension(HOME))).session.session_id == issued.session_id


async def test_revocation_by_risk_is_known_to_the_other_node_and_to_the_trail(pair: Pair) -> None:
    await pair.reload(REFUSING.replace("refuse = 50", "revoke_session = 50"))
    async with Api(pair.nodes[0].grpc_address) as a, Api(pair.nodes[1].grpc_address) as b:
        issued = await a.issue("robbed", client_context=HOME)
        failure = await refused(a.refresh(issued.refresh_token, client_context=ABROAD))
        assert failure.reason == "SESSION_REVOKED"
        assert (
            await refused(b.refresh(issued.refresh_token, client_context=HOME))
        ).reason == "SESSION_REVOKED"
    # Both rows were written in the transaction of the revocation, and their lines after it.
    await eventually(lambda: "risk.detected" in pair.nodes[0].log_text())
    await eventually(lambda: "COMPROMISED" in pair.nodes[0].log_text())


async def test_token_endpoint_demands_a_step_up_for_a_session_from_elsewhere(pair: Pair) -> None:
    await pair.reload(REFUSING.replace("refuse = 50", "step_up = 50"))
    node = pair.nodes[0]
    async with Api(node.grpc_address) as a:
        client = client_service_pb2.Client(
            client_id="public",
            token_endpoint_auth_method=client_service_pb2.TOKEN_ENDPOINT_AUTH_METHOD_NONE,
            grant_types=["refresh_token"],
        )
        stub = client_service_pb2_grpc.ClientServiceStub(a.channel)
        await stub.CreateClient(client_service_pb2.CreateClientRequest(client=client))
        issued = await a.issue("browser", client_id="public", client_context=HOME, audience=[], scopes=[])
    form = {"grant_type": "refresh_token", "refresh_token": issued.refresh_token, "client_id": "public"}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.post(f"{node.http_url}/token", data=form)
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert (body["error"], body["reason"], body["max_age"]) == (
        "insufficient_user_authentication",
        "AUTHENTICATION_INSUFFICIENT",
        300,
    )


async def test_invalid_rules_leave_those_in_force(pair: Pair) -> None:
    await pair.reload(REFUSING)
    rewrite(pair.file, REFUSING.replace("new_device", "new_divice"))
    await eventually(lambda: "did you mean new_device?" in pair.nodes[0].log_text())
    async with Api(pair.nodes[0].grpc_address) as a:
        issued = await a.issue("still", client_context=HOME)
        assert (
            await refused(a.refresh(issued.refresh_token, client_context=ABROAD))
        ).reason == "RISK_REFUSED"


async def test_race_is_told_from_theft(pair: Pair) -> None:
    window = '[classifications.internal]\ngrace_period = "0s"\nrefresh_race_window = "5m"\n'
    await pair.reload(window)
    async with Api(pair.nodes[0].grpc_address) as a, Api(pair.nodes[1].grpc_address) as b:
        first = await a.issue("tabs", client_context=HOME)
        second = await b.refresh(first.refresh_token, client_context=HOME)
        failure = await refused(a.refresh(first.refresh_token, client_context=HOME))
        assert (failure.code.name, failure.reason) == ("ABORTED", "REFRESH_RACE")
        third = await a.refresh(second.refresh_token, client_context=HOME)
        failure = await refused(b.refresh(first.refresh_token, client_context=ABROAD))
        assert failure.reason == "REFRESH_TOKEN_REUSED"
        assert (
            await refused(a.refresh(third.refresh_token, client_context=HOME))
        ).reason == "SESSION_REVOKED"

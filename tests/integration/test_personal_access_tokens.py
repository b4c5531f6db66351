"""Personal access tokens: created at one node, exchanged over HTTP, seen and revoked at another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.calls import STRONG, TIMEOUT, Api, Follower, refused
from tests.integration.nodes import Node, nodes
from token_service.core.clients.client import TOKEN_EXCHANGE as EXCHANGE
from token_service.core.grants.personal_access import PERSONAL_ACCESS_TOKEN
from token_service.v1 import (
    client_service_pb2 as clients_pb,
    personal_access_token_service_pb2 as pb,
    session_service_pb2,
    token_pb2,
)
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.personal_access_token_service_pb2_grpc import PersonalAccessTokenServiceStub

ACTIVE, REVOKED = session_service_pb2.SESSION_STATE_ACTIVE, session_service_pb2.SESSION_STATE_REVOKED


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    path: Path = tmp_path_factory.mktemp("personal") / "token_service.db"
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{path}"}) as found:
        yield found
        for made in found:
            made.terminate()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            assert "tspat_" not in "\n".join(database.iterdump())


async def create(api: Api, **fields: Any) -> pb.CreatePersonalAccessTokenResponse:
    request = pb.CreatePersonalAccessTokenRequest(
        **{
            "subject": "alice",
            "client_id": "ci",
            "name": "nightly backup",
            "audience": ["api"],
            "scopes": ["read"],
            "ttl": {"seconds": 3600},
            **fields,
        }
    )
    return await PersonalAccessTokenServiceStub(api.channel).CreatePersonalAccessToken(
        request, timeout=TIMEOUT
    )


async def tokens_of(api: Api, subject: str) -> list[pb.PersonalAccessToken]:
    request = pb.ListPersonalAccessTokensRequest(subject=subject)
    stub = PersonalAccessTokenServiceStub(api.channel)
    return list((await stub.ListPersonalAccessTokens(request, timeout=TIMEOUT)).personal_access_tokens)


async def test_life_of_a_token_on_two_nodes(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as one, Api(pair[1].grpc_address) as other:
        created = await create(one, request_id="once")
        assert (await create(other, request_id="once")) == created
        token = created.personal_access_token
        assert token.expire_time.seconds - token.create_time.seconds == 3600
        assert (token.state, token.HasField("last_use_time")) == (ACTIVE, False)
        assert await tokens_of(other, "alice") == [token]

        answer = await other.validate(created.token, audience="api", required_scopes=["read"])
        assert answer.claims.token_type == token_pb2.TOKEN_TYPE_PERSONAL_ACCESS
        assert answer.claims.session_id == token.personal_access_token_id
        assert answer.claims.expire_time == token.expire_time
        assert await other.why(created.token, audience="files") == "WRONG_AUDIENCE"
        assert (await refused(one.refresh(created.token, client_id="ci"))).reason == "REFRESH_TOKEN_INVALID"
        (used,) = await tokens_of(one, "alice")
        assert used.last_use_time.ToNanoseconds() > used.create_time.ToNanoseconds()

        async with Follower(other) as follower:
            revocation = pb.RevokePersonalAccessTokenRequest(
                personal_access_token_id=token.personal_access_token_id, comment="laptop lost"
            )
            stub = PersonalAccessTokenServiceStub(one.channel)
            revoked = await stub.RevokePersonalAccessToken(revocation, timeout=TIMEOUT)
            await follower.caught_up_to(revoked.cursor)
            assert [entry.session_id for entry in follower.entries] == [token.personal_access_token_id]
        assert await other.why(created.token, consistency=STRONG) == "REVOKED"
        (ended,) = await tokens_of(other, "alice")
        assert (ended.state, ended.revoked_through) == (REVOKED, session_service_pb2.REVOKED_THROUGH_SESSION)

        session = await one.sessions.GetSession(
            session_service_pb2.GetSessionRequest(session_id=token.personal_access_token_id), timeout=TIMEOUT
        )
        assert session.session.personal_access_token_name == "nightly backup"


async def test_exchanged_access_token_dies_with_its_token(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as one, Api(pair[1].grpc_address) as other:
        client = clients_pb.Client(
            client_id="backup",
            token_endpoint_auth_method=clients_pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
            grant_types=[EXCHANGE],
        )
        secret = (
            await ClientServiceStub(one.channel).CreateClient(
                clients_pb.CreateClientRequest(client=client), timeout=TIMEOUT
            )
        ).client_secret
        created = await create(
            one, subject="dave", client_id="backup", scopes=["read", "write"], ttl={"seconds": 300}
        )

        async def post(token: str, **parameters: str) -> httpx.Response:
            form = {
                "grant_type": EXCHANGE,
                "subject_token": token,
                "subject_token_type": PERSONAL_ACCESS_TOKEN,
                **parameters,
            }
            async with httpx.AsyncClient(timeout=TIMEOUT) as http:
                return await http.post(
                    f"http://{pair[0].http_address}/token", data=form, auth=("backup", secret)
                )

        answer = await post(created.token, scope="read")
        body = answer.json()
        assert (answer.status_code, body["token_type"], body["scope"]) == (200, "Bearer", "read"), body
        assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        assert "refresh_token" not in body
        assert 0 < body["expires_in"] <= 300
        claims = (await other.validate(body["access_token"], audience="api", consistency=STRONG)).claims
        assert claims.session_id == created.personal_access_token.personal_access_token_id
        assert (claims.subject, list(claims.scopes)) == ("dave", ["read"])

        await other.revoke(token=created.token)
        assert await one.why(body["access_token"], consistency=STRONG) == "REVOKED"
        refusal = await post(created.token)
        assert (refusal.status_code, refusal.json()["error"]) == (400, "invalid_request"), refusal.text
        assert created.token not in refusal.text


async def test_revocation_of_the_subject_ends_its_tokens(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as one, Api(pair[1].grpc_address) as other:
        first, second = await create(one, subject="bob"), await create(other, subject="bob", client_id="web")
        await one.revoke(subject="bob")
        for created in (first, second):
            assert await other.why(created.token) == "REVOKED"
        assert await other.why((await create(one, subject="bob")).token) == ""


async def test_lifetime_above_the_policy_is_a_policy_violation(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as api:
        failure = await refused(create(api, subject="carol", ttl={"seconds": 91 * 86400}))
        assert (failure.reason, failure.metadata) == ("POLICY_VIOLATION", {"field": "ttl"})
        failure = await refused(create(api, subject="carol", ttl=None, scopes=[], audience=[], name=""))
        assert set(failure.violations) == {"ttl", "scopes", "audience", "name"}
        assert await tokens_of(api, "carol") == []

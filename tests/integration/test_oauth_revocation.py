"""A revocation over HTTP reaches the introspection endpoint at once, and validators over the stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.integration.calls import Api
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from token_service.client import ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.v1 import client_service_pb2 as pb, client_service_pb2_grpc

TIMEOUT = 60


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    directory = tmp_path_factory.mktemp("sqlite")
    env = {
        "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{directory / 'token_service.db'}",
        "TOKEN_SERVICE_ISSUER": "https://tokens.example.org",
    }
    with nodes(2, env) as found:
        yield found


@pytest.fixture
async def app(pair: list[Node]) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client of the first node with the credentials of a registered client."""
    async with Api(pair[0].grpc_address) as api:
        stub = client_service_pb2_grpc.ClientServiceStub(api.channel)
        request = pb.CreateClientRequest(
            client=pb.Client(
                token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
                grant_types=["client_credentials", "refresh_token"],
                audiences=["api"],
                scopes=["read"],
            )
        )
        created = await stub.CreateClient(request, timeout=TIMEOUT)
    async with httpx.AsyncClient(
        base_url=pair[0].http_url,
        auth=(created.client.client_id, created.client_secret),
        trust_env=False,
        timeout=TIMEOUT,
    ) as client:
        yield client


async def test_token_revoked_over_http_is_rejected_by_a_validator_of_another_node(
    pair: list[Node], app: httpx.AsyncClient
) -> None:
    assert app.auth is not None
    issuer = ServiceIssuer(issuer="https://tokens.example.org", target=pair[1].grpc_address)
    async with TokenValidator(ValidatorConfig(issuers=[issuer], audience="api")) as validator:
        await validator.wait_ready(TIMEOUT)
        tokens = [
            (await app.post("/token", data={"grant_type": "client_credentials"})).json()["access_token"]
            for _ in range(2)
        ]
        for token in tokens:
            assert (await validator.validate(token)).scopes == {"read"}
            assert (await app.post("/introspect", data={"token": token})).json()["active"] is True
        revoked = await app.post("/revoke", data={"token": tokens[0]})
        assert (revoked.status_code, revoked.content) == (200, b"")
        assert (await app.post("/introspect", data={"token": tokens[0]})).json() == {"active": False}

        async def is_rejected() -> bool:
            try:
                await validator.validate(tokens[0])
            except InvalidTokenError as error:
                return error.reason is InvalidReason.REVOKED
            return False

        await eventually(is_rejected)
        assert (await validator.validate(tokens[1])).scopes == {"read"}


async def test_announced_endpoints_answer_over_http(app: httpx.AsyncClient) -> None:
    document = (await app.get("/.well-known/openid-configuration")).json()
    for name in ("introspection_endpoint", "revocation_endpoint", "token_endpoint"):
        path = document[name].removeprefix(document["issuer"])
        assert (await app.post(path)).json()["error"] == "invalid_request"
    assert (await app.get("/.well-known/jwks.json")).json()["keys"]

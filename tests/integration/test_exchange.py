"""Token exchange over HTTP: docs/token-exchange.md, and the end of exchanged tokens at a validator."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.calls import ACCESS, STRONG, Api
from tests.integration.nodes import Node, wait_for_client
from tests.integration.tour import DOCS, Tour, steps
from tests.support.deadline import eventually
from token_service.client import InvalidTokenError, ServiceIssuer, TokenKind, TokenValidator, ValidatorConfig
from token_service.v1 import token_pb2

PAGE = DOCS / "token-exchange.md"
ISSUER = "http://127.0.0.1:8080"
_STEPS = steps(PAGE.read_text(), "exchange")
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_ISSUER": ISSUER}) as node:
        yield node


@pytest.fixture(scope="module")
def gateway(node: Node) -> dict[str, Any]:
    """Run the commands of the page; return the registration of the client that they make."""
    assert len(_STEPS) == 4
    with Tour(node, {"/var/lib/token-service": str(node.data_dir)}) as tour:
        for step in _STEPS:
            output = tour.run(step).strip()
            assert output == (step.shown or "").strip(), f"{step.code}\nprints now:\n{output}"
        registration: dict[str, Any] = json.loads(tour._type("cat gateway.json"))
    wait_for_client(node, "gateway", registration["client_secret"])
    return registration


async def exchange(node: Node, gateway: dict[str, Any], token: str, **parameters: str) -> httpx.Response:
    basic = b64encode(f"gateway:{gateway['client_secret']}".encode()).decode()
    form = {
        "grant_type": GRANT,
        "subject_token": token,
        "subject_token_type": f"{TYPE}access_token",
        **parameters,
    }
    async with httpx.AsyncClient() as http:
        return await http.post(
            f"{node.http_url}/token", data=form, headers={"Authorization": f"Basic {basic}"}, timeout=60
        )


@pytest.mark.parametrize("kind", [TokenKind.ACCESS, TokenKind.TRANSACTION])
async def test_logout_ends_the_exchanged_token_at_a_validator(
    node: Node, gateway: dict[str, Any], kind: TokenKind
) -> None:
    is_transaction = kind is TokenKind.TRANSACTION
    audience = "shop.example" if is_transaction else "https://inventory.example"
    issuer = ServiceIssuer(issuer=ISSUER, target=node.grpc_address, token_kinds=frozenset({kind}))
    hint = token_pb2.TOKEN_TYPE_TRANSACTION if is_transaction else ACCESS
    async with (
        Api(node.grpc_address) as api,
        TokenValidator(ValidatorConfig(issuers=[issuer], audience=audience)) as validator,
    ):
        issued = await api.issue(audience=["https://shop.example"], scopes=["pay"])
        response = await exchange(
            node,
            gateway,
            issued.access_token,
            audience=audience,
            scope="pay",
            requested_token_type=f"{TYPE}{'txn_token' if is_transaction else 'access_token'}",
        )
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        answer = response.json()
        assert answer["token_type"] == ("N_A" if is_transaction else "Bearer")
        assert "refresh_token" not in answer
        token = answer["access_token"]
        claims = await validator.validate(token)
        assert (claims.subject, claims.session_id, claims.client_id) == (
            "alice",
            issued.session_id,
            "gateway",
        )
        assert claims.actor == (None if is_transaction else {"sub": "gateway"})
        judged = await api.validate(token, token_type_hint=hint)
        assert judged.claims.token_id == claims.token_id
        assert dict(judged.claims.actor) == (claims.actor or {})
        if is_transaction:
            assert await api.why(token) == "WRONG_TYPE"
        await api.revoke(session_id=issued.session_id)

        async def is_rejected() -> bool:
            try:
                await validator.validate(token)
            except InvalidTokenError as error:
                return error.reason.value == "REVOKED"
            return False

        await eventually(is_rejected)
        assert await api.why(token, token_type_hint=hint, consistency=STRONG) == "REVOKED"


async def test_refusals_have_the_codes_of_the_standard(node: Node, gateway: dict[str, Any]) -> None:
    async with Api(node.grpc_address) as api:
        token = (await api.issue(audience=["https://shop.example"], scopes=["pay"])).access_token
        other = (await api.issue(client_id="mobile", scopes=["pay"])).access_token
        revoked = (await api.issue()).access_token
        await api.revoke(token=revoked)

    async def refusal(subject: str = token, **parameters: str) -> tuple[int, str, str]:
        form = {"audience": "https://inventory.example", "scope": "pay", **parameters}
        response = await exchange(node, gateway, subject, **form)
        body = response.json()
        assert subject not in response.text
        return response.status_code, body["error"], body["reason"]

    assert await refusal(revoked) == (400, "invalid_request", "SUBJECT_TOKEN_INVALID")
    assert await refusal(scope="admin") == (400, "invalid_scope", "SCOPE_EXCEEDED")
    assert await refusal(audience="https://bank.example") == (400, "invalid_target", "PERMISSION_DENIED")
    assert await refusal(other) == (400, "unauthorized_client", "PERMISSION_DENIED")
    assert await refusal(subject_token_type=f"{TYPE}saml2") == (400, "invalid_request", "INVALID_REQUEST")
    assert await refusal(requested_token_type=f"{TYPE}id_token") == (
        400,
        "invalid_request",
        "INVALID_REQUEST",
    )
    assert await refusal(actor_token="x", actor_token_type=f"{TYPE}access_token") == (
        400,
        "invalid_request",
        "SUBJECT_TOKEN_INVALID",
    )


async def test_exchange_is_in_the_audit_trail(node: Node, gateway: dict[str, Any]) -> None:
    async with Api(node.grpc_address) as api:
        token = (await api.issue("carol", audience=["https://shop.example"], scopes=["pay"])).access_token
    response = await exchange(node, gateway, token, audience="https://inventory.example")
    assert response.status_code == 200
    log = node.log_text
    await eventually(
        lambda: any("token.exchanged" in line and "carol" in line for line in log().splitlines())
    )
    [line] = [line for line in log().splitlines() if "token.exchanged" in line and "carol" in line]
    for part in ("gateway", "web", "carol"):
        assert part in line
    assert response.json()["access_token"] not in log()

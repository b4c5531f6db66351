"""Transaction tokens at the HTTP middleware: with event loops and with threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from token_service.client import (
    BearerAuthMiddleware,
    BearerAuthWsgiMiddleware,
    current_claims,
    current_transaction,
)
from token_service.client._internal.transaction import TRANSACTION
from token_service.testing import FakeIssuer

DOMAIN = "shop.test"
RULES: dict[str, Any] = {"scopes": {"/orders": ["orders"]}, "public": ["/healthz"]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer() as issuer:
        yield issuer


def described() -> bytes:
    try:
        return f"{current_claims().subject} {current_transaction().transaction_id}".encode()
    except LookupError:
        return b"none"


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": described()})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [described()]


async def ask(
    issuer: FakeIssuer, kind: str, headers: list[tuple[str, str]], path: str = "/orders", **rules: Any
) -> tuple[int, bytes]:
    """Send a request through the middleware; return status and body."""
    rules = {"trust_domain": DOMAIN, **RULES, **rules}
    if kind == "asgi":
        async with issuer.async_validator() as validator:
            transport = httpx.ASGITransport(BearerAuthMiddleware(asgi_app, validator, **rules))
            async with httpx.AsyncClient(transport=transport, base_url="http://orders.test") as client:
                answer = await client.get(path, headers=headers)
                return answer.status_code, answer.content
    with issuer.validator() as validator:
        wsgi = httpx.WSGITransport(BearerAuthWsgiMiddleware(wsgi_app, validator, **rules))
        with httpx.Client(transport=wsgi, base_url="http://orders.test") as client:
            answer = client.get(path, headers=headers)
    assert TRANSACTION.get() is None  # the thread serves other requests next
    return answer.status_code, answer.content


KINDS = pytest.mark.parametrize("kind", ["asgi", "wsgi"])


@KINDS
async def test_application_knows_the_transaction(issuer: FakeIssuer, kind: str) -> None:
    token = issuer.transaction_token(subject="alice", claims={"txn": "t-1"})
    assert await ask(issuer, kind, [("Txn-Token", token)]) == (200, b"alice t-1")
    assert await ask(issuer, kind, [("Txn-Token", token)], "/healthz") == (200, b"none")


@KINDS
async def test_request_without_its_transaction_token_is_refused(issuer: FakeIssuer, kind: str) -> None:
    good = issuer.transaction_token()
    access = issuer.access_token(audience=[DOMAIN], scopes=["orders"])
    for headers in (
        [],
        [("Authorization", f"Bearer {good}")],
        [("Authorization", f"Bearer {access}")],
        [("Txn-Token", access)],
        [("Txn-Token", issuer.transaction_token(trust_domain="bank.test"))],
        [("Txn-Token", "not-a-token")],
    ):
        assert (await ask(issuer, kind, headers))[0] == 401, headers
    twice = [("Txn-Token", good)] * 2 if kind == "asgi" else [("Txn-Token", f"{good},{good}")]  # PEP 3333
    assert (await ask(issuer, kind, twice))[0] == 400
    narrow = issuer.transaction_token(scopes=["other"])
    assert (await ask(issuer, kind, [("Txn-Token", narrow)]))[0] == 403
    issuer.revoke(token=good)
    assert (await ask(issuer, kind, [("Txn-Token", good)]))[0] == 401


@KINDS
async def test_transaction_token_is_no_access_token(issuer: FakeIssuer, kind: str) -> None:
    token = issuer.transaction_token(scopes=["orders"])
    for headers in ([("Authorization", f"Bearer {token}")], [("Txn-Token", token)]):
        assert (await ask(issuer, kind, headers, trust_domain=""))[0] == 401
    access = issuer.access_token(scopes=["orders"])
    assert await ask(issuer, kind, [("Authorization", f"Bearer {access}")], trust_domain="") == (200, b"none")

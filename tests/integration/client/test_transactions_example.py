"""examples/transactions: one transaction through three processes, and its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from token_service.client import GrantInvalidError, Secret, ServiceError, TransactionExchange
from token_service.testing import TokenServiceInProcess
from token_service.v1 import client_service_pb2 as pb
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.token_pb2 import TOKEN_TYPE_ACCESS
from token_service.v1.token_service_pb2 import IssueTokenRequest, RevokeTokenRequest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "transactions"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@dataclass
class Shop:
    """The three services, and the token service that they trust."""

    service: TokenServiceInProcess
    edge: str
    orders: str
    exchange: TransactionExchange

    def access_token(self, subject: str, *scopes: str, audience: str = "shop") -> str:
        request = IssueTokenRequest(
            subject=subject,
            client_id="web",
            audience=[audience],
            scopes=scopes or ("orders:write", "orders:read"),
            token_types=[TOKEN_TYPE_ACCESS],
        )
        return str(self.service.tokens.IssueToken(request).access_token)

    def place(self, token: str, item: str = "tea") -> httpx.Response:
        return httpx.post(
            f"{self.edge}/orders/{item}", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def place_inside(self, token: str, item: str = "tea") -> httpx.Response:
        return httpx.post(f"{self.orders}/orders/{item}", headers={"Txn-Token": token}, timeout=30)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    logs = tmp_path_factory.mktemp("transactions")
    with ExitStack() as stack:
        service = stack.enter_context(TokenServiceInProcess())
        right = pb.Right(
            permission="exchange", clients=["web"], audiences=["shop.example"], token_types=["transaction"]
        )
        client = pb.Client(
            client_id="edge",
            token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
            grant_types=[EXCHANGE],
            rights=[right],
        )
        created = ClientServiceStub(service.channel).CreateClient(pb.CreateClientRequest(client=client))
        ports = {name: free_port() for name in ("edge", "orders", "stock")}
        for port in ports.values():
            stack.callback(release_port, port)
        environment = {
            **os.environ,
            "ISSUER": service.url,
            "TARGET": service.target,
            "TOKEN_URL": f"{service.url}/token",
            "CLIENT_SECRET": created.client_secret,
            "ORDERS_URL": f"http://127.0.0.1:{ports['orders']}",
            "STOCK_TARGET": f"127.0.0.1:{ports['stock']}",
        }
        for name, port in ports.items():
            program = ManagedProcess(
                [sys.executable, EXAMPLE / f"{name}.py"],
                log=logs / name,
                env={**environment, "PORT": str(port)},
            )
            stack.callback(program.kill)
        exchange = TransactionExchange(
            token_url=f"{service.url}/token",
            client_id="edge",
            secret=Secret(created.client_secret.encode()),
            trust_domain="shop.example",
        )
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        shop = Shop(service, urls["edge"], urls["orders"], exchange)
        first = shop.access_token("first")
        eventually_sync(lambda: _answers(shop, first))
        yield shop


def _answers(shop: Shop, token: str) -> bool:
    try:
        return shop.place(token).status_code == 200
    except httpx.TransportError:
        return False


def test_transaction_reaches_the_innermost_service(shop: Shop) -> None:
    answer = shop.place(shop.access_token("alice"), "coffee")
    assert answer.status_code == 200, answer.text
    taken = answer.json()
    assert taken.pop("transaction")
    assert taken == {"item": "coffee", "for": "alice", "requested_by": "edge"}
    again = shop.place(shop.access_token("alice"), "coffee").json()
    assert again["transaction"] != answer.json()["transaction"]


def test_edge_refuses_what_it_does_not_accept(shop: Shop) -> None:
    assert httpx.post(f"{shop.edge}/orders/tea", timeout=30).status_code == 401
    assert shop.place(shop.access_token("alice", "orders:read")).status_code == 403
    assert shop.place(shop.access_token("alice", audience="bank")).status_code == 401
    transaction = shop.exchange.exchange(shop.access_token("alice"), scopes=["orders:write"])
    assert shop.place(transaction.token).status_code == 401


def test_services_inside_accept_transaction_tokens_only(shop: Shop) -> None:
    access = shop.access_token("alice", audience="shop.example")
    assert shop.place_inside(access).status_code == 401
    headers = {"Authorization": f"Bearer {access}"}
    bearer = httpx.post(f"{shop.orders}/orders/tea", headers=headers, timeout=30)
    assert bearer.status_code == 401
    good = shop.exchange.exchange(
        shop.access_token("alice"), scopes=["orders:write"], details={"item": "tea"}
    )
    assert shop.place_inside(good.token).json()["transaction"] == good.transaction_id
    assert shop.place_inside(good.token, "gold").status_code == 403  # the transaction is about tea
    narrow = shop.exchange.exchange(shop.access_token("alice"), scopes=["orders:read"])
    assert shop.place_inside(narrow.token).status_code == 403


@pytest.mark.parametrize("by", ["token_id", "subject", "client_id"])
def test_revoked_transaction_ends_in_every_service(shop: Shop, by: str) -> None:
    subject = f"revoked-by-{by}"
    token = shop.access_token(subject)
    transaction = shop.exchange.exchange(token, scopes=["orders:write"], details={"item": "tea"})
    assert shop.place_inside(transaction.token).status_code == 200
    target = {"token_id": transaction.transaction_id, "subject": subject, "client_id": "edge"}[by]
    revoke = RevokeTokenRequest(**{by: target})  # type: ignore[arg-type]
    revoke.wait.applied_by_all = True
    revoke.wait.timeout.FromSeconds(60)
    applied = shop.service.tokens.RevokeToken(revoke)
    assert applied.subscribers_applied == applied.subscribers_connected >= 3
    assert shop.place_inside(transaction.token).status_code == 401


def test_invalid_access_token_begins_no_transaction(shop: Shop) -> None:
    token = shop.access_token("mallory")
    shop.service.tokens.RevokeToken(RevokeTokenRequest(token=token))
    with pytest.raises(ServiceError), shop.exchange.transaction(token, scopes=["orders:write"]):
        raise AssertionError("unreachable")
    wrong = TransactionExchange(
        token_url=shop.exchange.token_url,
        client_id="edge",
        secret=Secret(b"x" * 43),
        trust_domain="shop.example",
    )
    with pytest.raises(ServiceError) as refused:
        wrong.exchange(shop.access_token("alice"), scopes=["orders:write"])
    assert not isinstance(refused.value, GrantInvalidError)

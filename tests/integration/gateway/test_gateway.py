"""The gateway as a process beside a node."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support.deadline import eventually_sync
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ServiceProcess
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse
from token_service.v1 import token_pb2, token_service_pb2 as pb, token_service_pb2_grpc

AUDIENCE = "https://api.example"
BOUND = 2.0
ROUTES = '[routes.orders]\nscopes = ["orders:read"]\n'


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


@pytest.fixture
def gateway(service: ServiceProcess) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        service.grpc_address, audience=AUDIENCE, of_issuer=f"freshness_bound = {BOUND}", rest=ROUTES
    ) as process:
        yield process


def issue(service: ServiceProcess) -> str:
    with grpc.insecure_channel(service.grpc_address) as channel:
        request = pb.IssueTokenRequest(
            subject="alice",
            client_id="web",
            audience=[AUDIENCE],
            scopes=["orders:read"],
            token_types=[token_pb2.TOKEN_TYPE_ACCESS],
        )
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        return str(stub.IssueToken(request, timeout=30).access_token)


def revoke(service: ServiceProcess, token: str) -> None:
    with grpc.insecure_channel(service.grpc_address) as channel:
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        stub.RevokeToken(pb.RevokeTokenRequest(token=token), timeout=30)


def check(gateway: GatewayProcess, token: str | None, **extensions: str) -> CheckResponse:
    request = CheckRequest()
    http_request = request.attributes.request.http
    http_request.method, http_request.path = "GET", "/orders"
    if token is not None:
        http_request.headers["authorization"] = f"Bearer {token}"
    for name, value in extensions.items():
        request.attributes.context_extensions[name] = value
    with grpc.insecure_channel(gateway.grpc_address) as channel:
        call: Any = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        return CheckResponse.FromString(call(request.SerializeToString(), timeout=30))


def outcome(response: CheckResponse) -> str:
    return str(response.WhichOneof("http_response"))


def get(gateway: GatewayProcess, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection(gateway.http_address, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_token_is_allowed_until_it_is_revoked(service: ServiceProcess, gateway: GatewayProcess) -> None:
    token = issue(service)
    assert outcome(check(gateway, token, route="orders")) == "ok_response"
    assert outcome(check(gateway, None, route="orders")) == "denied_response"
    assert outcome(check(gateway, token, scopes="orders:write")) == "denied_response"

    proxy = {"x-forwarded-method": "GET", "x-forwarded-uri": "/orders", "authorization": f"Bearer {token}"}
    status, headers, _ = get(gateway, "/auth/orders", proxy)
    assert (status, headers["x-token-subject"], headers["x-token-session-id"]) == (200, "alice", "")

    revoke(service, token)
    acknowledged = time.monotonic()
    # Each answer that was asked for later than the bound is a refusal; in practice the first one is.
    while (asked := time.monotonic()) <= acknowledged + BOUND:
        if outcome(check(gateway, token, route="orders")) == "denied_response":
            break
    assert outcome(check(gateway, token, route="orders")) == "denied_response", asked - acknowledged
    assert get(gateway, "/auth/orders", proxy)[0] == 401


def test_gateway_without_its_service_refuses_as_unavailable(
    service: ServiceProcess, gateway: GatewayProcess
) -> None:
    token = issue(service)
    assert outcome(check(gateway, token)) == "ok_response"
    service.kill()
    eventually_sync(lambda: outcome(check(gateway, token)) == "error_response")
    response = check(gateway, token)
    assert response.error_response.status.code == 503
    proxy = {"x-forwarded-method": "GET", "x-forwarded-uri": "/orders", "authorization": f"Bearer {token}"}
    assert get(gateway, "/auth", proxy)[0] == 503
    status, _, body = get(gateway, "/readyz")
    (issuer,) = json.loads(body)["issuers"]
    assert (status, issuer["ready"]) == (503, False)
    assert issuer["staleness_seconds"] >= BOUND
    assert get(gateway, "/livez")[0] == 200
    assert b'outcome="unavailable",reason="stale"' in get(gateway, "/metrics")[2]

    service.start()
    eventually_sync(lambda: outcome(check(gateway, token)) == "ok_response")


def test_changed_file_is_loaded_and_the_end_is_orderly(
    service: ServiceProcess, gateway: GatewayProcess
) -> None:
    token = issue(service)
    assert outcome(check(gateway, token, route="invoices")) == "denied_response"
    gateway.configure(ROUTES + "[routes.invoices]\n")
    eventually_sync(lambda: outcome(check(gateway, token, route="invoices")) == "ok_response")

    gateway.configure(ROUTES + "[routes.invoices]\nscopes = 1\n")
    eventually_sync(lambda: b'reloads_total{outcome="failed"} 1.0' in get(gateway, "/metrics")[2])
    gateway.send_signal(signal.SIGHUP)
    eventually_sync(lambda: b'reloads_total{outcome="failed"} 2.0' in get(gateway, "/metrics")[2])
    assert outcome(check(gateway, token, route="invoices")) == "ok_response"

    assert gateway.terminate() == 0
    log = gateway.log_text()
    assert "kept the configuration" in log
    assert "Traceback" not in log
    assert token not in log
    assert token.rpartition(".")[2] not in log

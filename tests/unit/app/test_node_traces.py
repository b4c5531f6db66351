"""The traces of a whole node: gRPC, HTTP, SQL, and the client library that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import use_span

from tests.support.deadline import eventually
from token_service.app.node import node
from token_service.client import (
    MemoryTokenStore,
    ServiceIssuer,
    Tokens,
    TokenSource,
    TokenValidator,
    ValidatorConfig,
)
from token_service.client._internal.trace_context import trace_headers
from token_service.client.token_issuance import ClientCredentials, IssuedByCall
from token_service.config import load_settings
from token_service.telemetry import traces
from token_service.tokens.secret import Secret
from token_service.v1.client_service_pb2 import (
    TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
    Client,
    CreateClientRequest,
)
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.token_service_pb2 import IssueTokenRequest, RefreshTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

TIMEOUT = 60.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-1] + "0"
RPCS = ("IssueToken", "RefreshToken", "ConfirmRevocations")


class Traced:
    """A running node, and the spans that it has exported."""

    def __init__(self, memory: InMemorySpanExporter, target: str, url: str) -> None:
        self.memory = memory
        self.target = target
        self.url = url
        self.channel = grpc.aio.insecure_channel(target)
        self.tokens: Any = TokenServiceStub(self.channel)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]

    async def ended(self, name: str) -> Any:
        """Return the first span with this name, which may end after its response has arrived."""
        await eventually(lambda: bool(self.named(name)))
        return self.named(name)[0]


@asynccontextmanager
async def traced(
    directory: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Traced]:
    memory = InMemorySpanExporter()

    def provide(exporters: object, instance: str) -> TracerProvider:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        return provider

    monkeypatch.setattr(traces, "_provider", provide)
    loaded = load_settings(
        {
            "data_dir": str(directory / "data"),
            "grpc_address": "127.0.0.1:0",
            "http_address": "127.0.0.1:0",
            "signing_algorithm": "ES256",
            **settings,
        },
        {},
    )
    async with node(loaded, {"OTEL_TRACES_EXPORTER": "console", **(environ or {})}) as addresses:
        running = Traced(memory, addresses.grpc, f"http://{addresses.http}")
        yield running
        await running.channel.close()


async def client_of(service: Traced) -> Any:
    """Register a client that may use the endpoints of HTTP."""
    client = Client(
        token_endpoint_auth_method=TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
        grant_types=["client_credentials"],
        audiences=["api"],
        scopes=["read"],
    )
    stub: Any = ClientServiceStub(service.channel)
    return await stub.CreateClient(CreateClientRequest(client=client), timeout=TIMEOUT)


async def test_calls_are_traced_from_the_caller_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch) as service:
        issue = IssueTokenRequest(subject="a-subject", client_id="web")
        issued = await service.tokens.IssueToken(issue, metadata=[("traceparent", SAMPLED)], timeout=TIMEOUT)
        call = await service.ended("token_service.v1.TokenService/IssueToken")
        (insert,) = service.named("insert_session")
        assert (call.kind.name, f"{call.context.trace_id:032x}") == ("SERVER", TRACE)
        assert call.parent.span_id == 0x00F067AA0BA902B7
        assert dict(call.attributes) == {
            "rpc.system.name": "grpc",
            "rpc.method": "token_service.v1.TokenService/IssueToken",
            "rpc.response.status_code": "OK",
        }
        assert (insert.kind.name, insert.parent.span_id) == ("CLIENT", call.context.span_id)
        assert insert.context.trace_id == call.context.trace_id
        assert dict(insert.attributes) == {"db.system.name": "sqlite"}

        with pytest.raises(grpc.aio.AioRpcError):
            await service.tokens.RefreshToken(
                RefreshTokenRequest(refresh_token="a-secret", client_id="web"),
                metadata=[("traceparent", "00-nonsense")],
            )
        refused = await service.ended("token_service.v1.TokenService/RefreshToken")
        assert refused.parent is None
        assert refused.attributes["error.type"] == "REFRESH_TOKEN_INVALID"
        assert refused.attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
        assert refused.status.status_code.name == "UNSET"  # the caller's mistake

        created = await client_of(service)
        auth = (created.client.client_id, created.client_secret)
        async with httpx.AsyncClient(base_url=service.url, timeout=TIMEOUT) as http:
            granted = await http.post("/token", data={"grant_type": "client_credentials"}, auth=auth)
            answer = await http.post(
                "/revoke",
                data={"token": granted.json()["access_token"]},
                auth=auth,
                headers={"traceparent": SAMPLED, "tracestate": "vendor=1"},
            )
            await http.get("/healthz")
            await http.get("/authorize?client_id=a-secret")
        assert answer.status_code == 200
        request = await service.ended("POST /revoke")
        assert f"{request.context.trace_id:032x}" == TRACE
        assert request.context.trace_state.to_header() == "vendor=1"
        assert dict(request.attributes) == {
            "http.request.method": "POST",
            "http.route": "/revoke",
            "url.scheme": "http",
            "http.response.status_code": 200,
        }
        (append,) = service.named("append_revocations")
        assert append.parent.span_id == request.context.span_id
        assert (await service.ended("GET /authorize")).attributes["http.response.status_code"] == 400
        assert not service.named("GET /healthz")

        exported = " ".join(span.to_json() for span in service.memory.get_finished_spans())
        for private in ("secret", "a-subject", issued.refresh_token, created.client_secret):
            assert private not in exported

        service.memory.clear()
        await service.tokens.IssueToken(issue, metadata=[("traceparent", UNSAMPLED)], timeout=TIMEOUT)
        await service.tokens.IssueToken(issue, metadata=[("traceparent", SAMPLED)], timeout=TIMEOUT)
        assert (await service.ended("token_service.v1.TokenService/IssueToken")).parent is not None


async def test_client_library_passes_the_active_span_of_its_application_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = TracerProvider().get_tracer("application")
    async with traced(tmp_path, monkeypatch) as service:
        issue = IssueTokenRequest(subject="alice", client_id="web")
        session = await service.tokens.IssueToken(issue, timeout=TIMEOUT)
        created = await client_of(service)
        service.memory.clear()
        with application.start_as_current_span("request") as span:
            await IssuedByCall(service.tokens, issue).obtain_async(TIMEOUT)
            credentials = ClientCredentials(
                token_url=f"{service.url}/token",
                client_id=created.client.client_id,
                secret=Secret(created.client_secret),
            )
            await credentials.obtain_async(TIMEOUT)
            store = MemoryTokenStore(replace(Tokens.of(session), access_expire_time=1.0))
            await TokenSource(service.tokens, client_id="web", store=store).tokens()
            issuer = ServiceIssuer(issuer=service.url, target=service.target)
            async with TokenValidator(ValidatorConfig(issuers=[issuer], audience="api")) as validator:
                await validator.wait_ready(TIMEOUT)
                names = [
                    *(f"token_service.v1.TokenService/{name}" for name in RPCS),
                    "POST /token",
                ]
                calls = [await service.ended(name) for name in names]
        expected = span.get_span_context()
        assert [(call.context.trace_id, call.parent.span_id) for call in calls] == [
            (expected.trace_id, expected.span_id) for _ in names
        ]
        assert trace_headers() == ()
        with use_span(span):  # of a task that outlives its request
            assert trace_headers() == ()

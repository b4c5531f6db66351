"""The metrics of real nodes: what they report to OpenTelemetry, and the page for all workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.integration.calls import TIMEOUT, Api
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from tests.support.ports import free_port, release_port
from token_service import __version__
from token_service.telemetry import registry
from token_service.telemetry.page import OPENMETRICS, PROMETHEUS
from token_service.telemetry.registry import REGISTRY
from token_service.v1.client_service_pb2 import Client, CreateClientRequest
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.event_service_pb2 import CreateWebhookRequest, Webhook
from token_service.v1.event_service_pb2_grpc import EventServiceStub
from token_service.v1.token_service_pb2 import (
    ConfirmRevocationsRequest,
    IssueTokenRequest,
    RevokeTokenRequest,
    StreamRevocationsRequest,
    ValidateTokenRequest,
)

ELSEWHERE = {
    registry.WORKERS,  # the page itself counts them: the next test
    registry.AUDIT_LOST,  # tests/unit/app/test_gauges.py
    registry.CERTIFICATE_EXPIRY,  # there, too
    registry.TLS_FAILURES,  # tests/unit/web/test_tls.py
    registry.LOCK_WAITS,  # PostgreSQL: tests/contract/test_pool.py
    registry.LOCK_WAIT_AGE,
    registry.SECURITY_EVENTS,  # tests/integration/test_security_events.py
    registry.SECURITY_EVENT_POLLS,
    registry.SSF_EVENTS,  # tests/unit/web/ssf/test_pushes.py
    registry.SSF_PAUSES,  # tests/unit/web/ssf/test_polls.py
    registry.AUTOMATIC_REVOCATIONS,  # tests/unit/app/test_counting.py
    registry.REDIS_IN_USE,  # tests/integration/test_rates.py
}
"""Metrics that this node has no reason to report, and the place of their tests."""


def exported(log: str) -> list[dict[str, Any]]:
    """Return the metrics of the last JSON document that the console exporter wrote to the log."""
    start = log.rindex('{\n    "resource_metrics"')
    document, _ = json.JSONDecoder().raw_decode(log[start:])
    (report,) = document["resource_metrics"]
    assert report["resource"]["attributes"]["service.name"] == "token-service"
    assert report["resource"]["attributes"]["service.version"] == __version__
    assert report["resource"]["attributes"]["service.instance.id"]
    return [metric for scope in report["scope_metrics"] for metric in scope["metrics"]]


async def test_every_metric_of_the_registry_is_reported_and_no_other() -> None:
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",  # only at the end
        "TOKEN_SERVICE_POLICY__INTERNAL__RATES": "issue_per_client=3/1h",
    }
    async with Node(env=env) as node, Api(node.grpc_address) as api:
        stream = api.tokens.StreamRevocations(StreamRevocationsRequest(subscriber_id="shop"))
        await stream.read()
        for _ in range(3):
            await api.tokens.IssueToken(IssueTokenRequest(subject="alice", client_id="web"))
        with pytest.raises(grpc.aio.AioRpcError):
            await api.tokens.IssueToken(IssueTokenRequest(client_id="web"))
        with pytest.raises(grpc.aio.AioRpcError):
            await api.tokens.IssueToken(IssueTokenRequest(subject="alice", client_id="web"))
        client = Client(backchannel_logout_uri="https://127.0.0.1:1/logout")  # not allowed: it is private
        created = await ClientServiceStub(api.channel).CreateClient(CreateClientRequest(client=client))
        await api.tokens.IssueToken(IssueTokenRequest(subject="alice", client_id=created.client.client_id))
        await api.tokens.RevokeToken(RevokeTokenRequest(subject="alice"))
        revoke = RevokeTokenRequest(client_id="shop", wait=RevokeTokenRequest.Wait(applied_by_all=True))
        revoke.wait.timeout.FromMilliseconds(1)
        revoked = await api.tokens.RevokeToken(revoke)
        await api.tokens.ValidateToken(ValidateTokenRequest(token="x"))
        await eventually(lambda: "was not told of a logout" in node.log_text())
        webhook = Webhook(url="https://localhost:1/hook")  # not allowed: its address is private
        await EventServiceStub(api.channel).CreateWebhook(CreateWebhookRequest(webhook=webhook))
        await eventually(lambda: "did not take an event" in node.log_text())
        confirmation = ConfirmRevocationsRequest(
            subscriber_id="shop", applied_cursor=revoked.cursor, validated=7
        )
        confirmation.refusals.add(reason="EXPIRED", count=2)
        confirmation.refusals.add(reason="FROM_THE_FUTURE", count=1)
        await api.tokens.ConfirmRevocations(confirmation)
        stream.cancel()
        assert node.terminate() == 0
        metrics = {metric["name"]: metric for metric in exported(node.log_text())}

    assert set(metrics) == {metric.name for metric in REGISTRY if metric not in ELSEWHERE}
    assert {name: metric["unit"] for name, metric in metrics.items()} == {
        metric.name: metric.unit for metric in REGISTRY if metric not in ELSEWHERE
    }
    duration = metrics["rpc.server.call.duration"]
    assert duration["unit"] == "s"
    calls = {
        (point["attributes"]["rpc.method"], point["attributes"]["rpc.response.status_code"]): point["count"]
        for point in duration["data"]["data_points"]
    }
    assert calls == {
        ("token_service.v1.ClientService/CreateClient", "OK"): 1,
        ("token_service.v1.EventService/CreateWebhook", "OK"): 1,
        ("token_service.v1.TokenService/ConfirmRevocations", "OK"): 1,
        ("token_service.v1.TokenService/IssueToken", "OK"): 4,
        ("token_service.v1.TokenService/IssueToken", "INVALID_ARGUMENT"): 1,
        ("token_service.v1.TokenService/IssueToken", "RESOURCE_EXHAUSTED"): 1,
        ("token_service.v1.TokenService/RevokeToken", "OK"): 2,
        ("token_service.v1.TokenService/ValidateToken", "OK"): 1,
    }
    assert values(metrics["token_service.events"])["token.issued",] == 4
    assert values(metrics["token_service.events"])["revoked",] == 2
    assert values(metrics["token_service.tokens"]) == {
        ("issued", token_type, "direct", client_id): count
        for token_type in ("access", "refresh")
        for client_id, count in (("web", 3), (created.client.client_id, 1))
    }
    assert values(metrics["token_service.revoked"]) == {
        ("subject", "UNSPECIFIED"): 1,
        ("client", "UNSPECIFIED"): 1,
    }
    assert values(metrics["token_service.rate_limited"]) == {("issue", "client"): 1}
    assert values(metrics["token_service.rate_admitted"]) == {("issue", "client"): 4}
    assert values(metrics["token_service.refusals"]) == {
        ("grpc", "INVALID_REQUEST"): 1,
        ("grpc", "RATE_LIMITED"): 1,
    }
    assert values(metrics["token_service.validations"]) == {("MALFORMED",): 1}
    assert values(metrics["token_service.logouts"]).keys() == {("failed",)}
    assert values(metrics["token_service.logouts.pending"]) == {(): 1}
    kept = values(metrics["token_service.revocations"])
    assert {target: count for target, count in kept.items() if count} == {("subject",): 1, ("client",): 1}
    assert values(metrics["token_service.log.head"]) == {(): 2}
    (propagation,) = metrics["token_service.revocation.propagation"]["data"]["data_points"]
    assert propagation["attributes"] == {"token_service.outcome": "timeout"}
    (lag,) = metrics["token_service.subscriber.confirmation"]["data"]["data_points"]
    assert lag["count"] >= 1
    (signatures,) = metrics["token_service.signature.duration"]["data"]["data_points"]
    assert signatures["count"] >= 4
    assert set(values(metrics["token_service.key.age"])) == {("active", "ES256"), ("prepared", "ES256")}
    assert values(metrics["token_service.validator.validated"]) == {(): 7}
    assert values(metrics["token_service.validator.refusals"]) == {("EXPIRED",): 2, ("OTHER",): 1}


def values(metric: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Return the values of a counter or gauge by the values of their attributes, in the order of the registry."""
    (row,) = (each for each in REGISTRY if each.name == metric["name"])
    found = {}
    for point in metric["data"]["data_points"]:
        assert set(point["attributes"]) == set(row.labels)
        found[tuple(point["attributes"][name] for name in row.labels)] = point["value"]
    return found


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraper:
    """Reads the page in both formats in turn, and checks each time that no counter went back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._counters: Samples = {}
        self.samples: Samples = {}
        self.scrapes = 0

    async def scrape(self) -> Samples:
        """Read the page once. A new connection each time may reach any worker."""
        is_openmetrics = self.scrapes % 2 == 0
        headers = {"accept": OPENMETRICS if is_openmetrics else PROMETHEUS}
        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            response = await client.get(self._url, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (200, headers["accept"])
        assert is_openmetrics == response.text.endswith("# EOF\n")
        families = list((read_openmetrics if is_openmetrics else read_text)(response.text))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        counters = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            if family.type in {"counter", "histogram"}
            for sample in family.samples
        }
        for key, value in self._counters.items():
            assert counters.get(key, -1) >= value, f"{key} went back from {value} to {counters.get(key)}"
        self._counters = counters
        self.scrapes += 1
        return self.samples

    def total(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (each, found), value in self.samples.items() if each == name and wanted <= found)


async def test_counters_of_workers_never_go_back_when_a_worker_is_killed() -> None:
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_METRICS_TOP_CLIENTS": "3"}
    async with Node("--workers", "2", env=env) as node:
        scraper = Scraper(f"{node.http_url}/metrics")
        acknowledged = 0

        async def issue(count: int) -> None:
            nonlocal acknowledged
            for number in range(count):
                try:
                    async with Api(node.grpc_address) as api:
                        await api.tokens.IssueToken(
                            IssueTokenRequest(subject="alice", client_id=f"client {number % 5}")
                        )
                except grpc.aio.AioRpcError:
                    continue  # its worker was killed
                acknowledged += 1

        async def scrape_until(done: Callable[[], bool]) -> None:
            async def once() -> bool:
                try:
                    await scraper.scrape()
                except httpx.TransportError:
                    return False  # its worker was killed
                return done()

            await eventually(once)

        def are_back(starts: int) -> bool:
            counted = scraper.total("token_service_worker_starts_total")
            return counted == starts and scraper.total("token_service_workers") == 2

        await scrape_until(partial(are_back, 2))
        for starts in (3, 4):
            killed = node.children()[starts % 2]
            issuing = asyncio.create_task(issue(30))
            await scrape_until(lambda: scraper.total("token_service_tokens_total") >= 10)
            os.kill(killed, signal.SIGKILL)
            await scrape_until(partial(are_back, starts))
            await issuing
        await scraper.scrape()
        issued = scraper.total("token_service_tokens_total", token_service_token_type="access")
        # A call whose worker was killed may have counted before it was answered.
        assert acknowledged <= issued <= 60
        assert acknowledged >= 40
        clients = {
            dict(labels)["token_service_client_id"]
            for name, labels in scraper.samples
            if name == "token_service_tokens_total"
        }
        assert "other" in clients
        assert clients <= {"other", *(f"client {number}" for number in range(5))}
        (target,) = (dict(labels) for name, labels in scraper.samples if name == "target_info")
        assert (target["service_name"], target["service_version"]) == ("token-service", __version__)


async def test_page_has_an_address_of_its_own() -> None:
    with taken_port() as port:
        env = {"TOKEN_SERVICE_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        async with Node("--workers", "2", env=env) as node, httpx.AsyncClient(timeout=TIMEOUT) as client:
            page = await client.get(f"http://127.0.0.1:{port}/metrics")
            assert "token_service_worker_starts_total" in page.text
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 404
            assert (await client.get(f"{node.http_url}/metrics")).status_code == 404
            assert node.terminate() == 0


async def test_prometheus_exporter_of_several_workers_is_refused() -> None:
    node = Node("--workers", "2", env={"OTEL_METRICS_EXPORTER": "prometheus"})
    try:
        node.start(wait=False)
        assert await asyncio.to_thread(node.wait) == 2
        assert "OTEL_METRICS_EXPORTER is 'prometheus', which listens on one port" in node.log_text()
        assert "set OTEL_METRICS_EXPORTER=none and TOKEN_SERVICE_METRICS_ADDRESS=" in node.log_text()
        assert "starting another" not in node.log_text()
    finally:
        node.close()


@contextmanager
def taken_port() -> Iterator[int]:
    port = free_port()
    try:
        yield port
    finally:
        release_port(port)

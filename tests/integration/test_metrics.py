"""The metrics that a node reports to OpenTelemetry, compared with docs/operations.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.calls import Api
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from token_service.v1.client_service_pb2 import Client, CreateClientRequest
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.token_service_pb2 import (
    IssueTokenRequest,
    RevokeTokenRequest,
    StreamRevocationsRequest,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def documented() -> set[str]:
    section = re.search(r"<!-- metrics:begin -->(.*?)<!-- metrics:end -->", PAGE.read_text(), re.DOTALL)
    assert section
    return set(re.findall(r"^\| `([a-z_.]+)` ", section[1], re.MULTILINE))


def exported(log: str) -> list[dict[str, Any]]:
    """Return the metrics of the last JSON document that the console exporter wrote to the log."""
    start = log.rindex('{\n    "resource_metrics"')
    document, _ = json.JSONDecoder().raw_decode(log[start:])
    (report,) = document["resource_metrics"]
    assert report["resource"]["attributes"]["service.name"] == "token-service"
    assert report["resource"]["attributes"]["service.instance.id"]
    return [metric for scope in report["scope_metrics"] for metric in scope["metrics"]]


async def test_calls_events_and_state_are_reported_as_documented() -> None:
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",  # only at the end
        "TOKEN_SERVICE_POLICY__INTERNAL__RATES": "issue_per_client=3/1h",
    }
    async with Node(env=env) as node, Api(node.grpc_address) as api:
        stream = api.tokens.StreamRevocations(StreamRevocationsRequest())
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
        await eventually(lambda: "was not told of a logout" in node.log_text())
        stream.cancel()
        assert node.terminate() == 0
        metrics = {metric["name"]: metric for metric in exported(node.log_text())}

    assert set(metrics) == documented()
    duration = metrics["rpc.server.call.duration"]
    assert duration["unit"] == "s"
    calls = {
        (point["attributes"]["rpc.method"], point["attributes"]["rpc.response.status_code"]): point["count"]
        for point in duration["data"]["data_points"]
    }
    assert calls == {
        ("token_service.v1.ClientService/CreateClient", "OK"): 1,
        ("token_service.v1.TokenService/IssueToken", "OK"): 4,
        ("token_service.v1.TokenService/IssueToken", "INVALID_ARGUMENT"): 1,
        ("token_service.v1.TokenService/IssueToken", "RESOURCE_EXHAUSTED"): 1,
        ("token_service.v1.TokenService/RevokeToken", "OK"): 1,
    }
    events = {
        point["attributes"]["token_service.event"]: point["value"]
        for point in metrics["token_service.events"]["data"]["data_points"]
    }
    assert events["token.issued"] == 4
    assert events["revoked"] == 1
    (limited,) = metrics["token_service.rate_limited"]["data"]["data_points"]
    assert limited["value"] == 1
    assert limited["attributes"] == {"token_service.operation": "issue", "token_service.bucket": "client"}
    (logouts,) = metrics["token_service.logouts"]["data"]["data_points"]
    assert logouts["attributes"] == {"token_service.outcome": "failed"}
    (pending,) = metrics["token_service.logouts.pending"]["data"]["data_points"]
    assert pending["value"] == 1
    (revocations,) = metrics["token_service.revocations"]["data"]["data_points"]
    assert revocations["value"] == 1

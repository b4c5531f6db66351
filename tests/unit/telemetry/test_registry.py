"""The registry of metrics, and the page of the documentation that is made from it."""

from __future__ import annotations

import re

import pytest

from tests.support.metrics_page import PAGE, written
from token_service.telemetry import registry
from token_service.telemetry.metric import Combine, Kind, Metric
from token_service.telemetry.registry import REGISTRY


def test_page_has_the_table_of_the_registry() -> None:
    assert PAGE.read_text() == written(PAGE.read_text()), "run scripts/gen-metrics"


def test_names_are_unique_in_every_format() -> None:
    assert len({metric.name for metric in REGISTRY}) == len(REGISTRY)
    assert len({metric.family for metric in REGISTRY}) == len(REGISTRY)


@pytest.mark.parametrize("metric", REGISTRY, ids=lambda metric: metric.name)
def test_rows_keep_the_rules_of_names(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z]+(?:[._][a-z]+)+", metric.name)
    assert re.fullmatch(r"s|By|\{[a-z]+\}", metric.unit)
    assert metric.text.endswith(".")
    assert all(re.fullmatch(r"[a-z]+(?:[._][a-z]+)+", name) for name in metric.labels)
    assert all(metric.labels.values()), "what bounds the number of values?"
    assert metric.kind is Kind.GAUGE or metric.combine is Combine.SUM
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(len(labels) == len(metric.labels) for labels in metric.zeros)
    own = metric.name.startswith("token_service.")
    assert own or metric.name.startswith(("rpc.server.", "http.server.", "db.client."))


def test_released_names_stay() -> None:
    released = {
        "http.server.request.duration",
        "rpc.server.call.duration",
        "token_service.events",
        "token_service.logouts",
        "token_service.logouts.pending",
        "token_service.policy_file.failing",
        "token_service.rate_limited",
        "token_service.replica.staleness",
        "token_service.revocations",
        "token_service.streams",
        "token_service.validator.refusals",
        "token_service.validator.validated",
    }
    assert released <= {metric.name for metric in REGISTRY}


def test_names_of_prometheus_end_with_their_unit() -> None:
    assert registry.CALL_DURATION.family == "rpc_server_call_duration_seconds"
    assert registry.STREAMS.family == "token_service_streams"

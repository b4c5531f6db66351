"""The page of metrics, read by the parsers of prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from operator import mul
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from token_service.telemetry import Metrics, registry
from token_service.telemetry.board import Board
from token_service.telemetry.page import Page, prefers_openmetrics
from token_service.telemetry.registry import REGISTRY, WORKERS

Read = Callable[[str], Iterable[Any]]
FORMATS = [(True, read_openmetrics), (False, parser.text_string_to_metric_families)]


def page_of(board: Board) -> Page:
    return Page(board, REGISTRY, {"service.name": 'a "b"\\c\nd', "service.version": "1"}, WORKERS)


def samples(text: str, read: Read) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(("is_openmetrics", "read"), FORMATS)
def test_values_of_workers_are_combined_as_the_registry_says(is_openmetrics: bool, read: Read) -> None:  # noqa: FBT001
    board = Board(2)
    for number, segment in enumerate(board.segments, 1):
        metrics = Metrics({}, "worker", segment)
        counter, durations = metrics.counter(registry.EVENTS), metrics.histogram(registry.SUBSCRIBER_LAG)
        assert counter is not None
        assert durations is not None
        counter.add(number, "token.issued")
        durations.record(0.3 * number)
        for metric in (registry.STREAMS, registry.REPLICA_STALENESS, registry.KEY_NEXT_ROTATION):
            metrics.gauge(metric, partial(mul, number, 1.5))
        metrics.update()
    found = samples(page_of(board).text(openmetrics=is_openmetrics), read)
    event = frozenset({("token_service_event", "token.issued")})
    assert found["token_service_events_total", event] == 3
    assert found["token_service_streams", frozenset()] == 4.5
    assert found["token_service_replica_staleness_seconds", frozenset()] == 3
    assert found["token_service_key_next_rotation_seconds", frozenset()] == 1.5
    assert found["token_service_workers", frozenset()] == 2
    lag = "token_service_subscriber_confirmation_seconds"
    assert found[f"{lag}_count", frozenset()] == 2
    assert found[f"{lag}_sum", frozenset()] == pytest.approx(0.9)
    assert found[f"{lag}_bucket", frozenset({("le", "0.25")})] == 0
    assert found[f"{lag}_bucket", frozenset({("le", "0.5")})] == 1
    assert found[f"{lag}_bucket", frozenset({("le", "+Inf")})] == 2
    target = frozenset({("service_name", 'a "b"\\c\nd'), ("service_version", "1")})
    assert found["target_info", target] == 1


@pytest.mark.parametrize(("is_openmetrics", "read"), FORMATS)
def test_every_metric_of_the_registry_has_its_family(is_openmetrics: bool, read: Read) -> None:  # noqa: FBT001
    board = Board()
    metrics = Metrics({}, "worker", board.segments[0])
    for metric in REGISTRY:
        labels = tuple(f'{number} "\\\n' for number in range(len(metric.labels)))
        if metric.kind.value == "counter":
            counter = metrics.counter(metric)
            assert counter is not None
            counter.add(1, *labels)
        elif metric.kind.value == "histogram":
            histogram = metrics.histogram(metric)
            assert histogram is not None
            histogram.record(inf if metric is registry.CALL_DURATION else 0.5, *labels)
        elif metric is not WORKERS:
            metrics.gauge(metric, partial(dict, {labels: -inf}))
    metrics.update()
    families = {family.name: family for family in read(page_of(board).text(openmetrics=is_openmetrics))}
    suffix = "" if is_openmetrics else "_info"
    assert set(families) == {f"target{suffix}", *(metric.family for metric in REGISTRY)}
    for metric in REGISTRY:
        family = families[metric.family]
        assert family.type == metric.kind.value
        assert family.documentation == metric.text
        assert not is_openmetrics or family.unit == metric.unit_word
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {name.replace(".", "_") for name in metric.labels}
            found = tuple(value for name, value in sample.labels.items() if name != "le")
            assert found in metric.zeros or found == tuple(f'{n} "\\\n' for n in range(len(found)))


def test_series_that_alerts_watch_begin_at_zero() -> None:
    board = Board()
    metrics = Metrics({}, "worker", board.segments[0])
    metrics.counter(registry.KEY_STEPS)
    metrics.histogram(registry.PROPAGATION)
    found = samples(page_of(board).text(openmetrics=True), read_openmetrics)
    failed = frozenset({("token_service_outcome", "failed")})
    assert found["token_service_key_rotations_total", failed] == 0
    timeout = frozenset({("token_service_outcome", "timeout")})
    assert found["token_service_revocation_propagation_seconds_count", timeout] == 0


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=2.0.0,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.8", False),
        ("application/openmetrics-text;q=x,text/plain;q=0.1", False),
        (
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            ),
            True,
        ),
    ],
)
def test_format_follows_the_accept_header(accept: str, is_openmetrics: bool) -> None:  # noqa: FBT001
    assert prefers_openmetrics(accept) is is_openmetrics

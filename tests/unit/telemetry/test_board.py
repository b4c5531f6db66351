"""The shared memory of the workers' metrics."""

from __future__ import annotations

import json
import os
from math import isnan

import pytest

from token_service.telemetry import Metrics, registry
from token_service.telemetry.board import Board, Segment
from token_service.telemetry.metric import Kind, Metric

COUNTER = registry.JANITOR_ROWS
LABELED = registry.VALIDATOR_REFUSALS
GAUGE = registry.STREAMS


def values(board: Board) -> dict[tuple[str, ...], list[list[float]]]:
    found: dict[tuple[str, ...], list[list[float]]] = {}
    for _, series, numbers in board.read():
        found.setdefault((series.name, *series.labels), []).append(list(numbers))
    return found


def alive(board: Board) -> list[bool]:
    return [each.is_alive for each in board.segments]


def worker(board: Board, number: int) -> Metrics:
    return Metrics({}, f"worker {number}", board.segments[number])


def test_values_of_another_process_are_read() -> None:
    board = Board(2)
    pid = os.fork()
    if pid == 0:
        counter = worker(board, 1).counter(LABELED)
        assert counter is not None
        for _ in range(3):
            counter.add(1, "EXPIRED")
        os._exit(0)
    os.waitpid(pid, 0)
    counter = worker(board, 0).counter(LABELED)
    assert counter is not None
    counter.add(1, "EXPIRED")
    assert values(board) == {(LABELED.name, "EXPIRED"): [[1.0], [3.0]]}


def test_successor_of_a_worker_goes_on_counting() -> None:
    board = Board()
    histogram = Metric(name="x", kind=Kind.HISTOGRAM, unit="s", text="x", buckets=(1.0, 2.0))
    for _ in range(2):
        metrics = worker(board, 0)
        counter, durations = metrics.counter(COUNTER), metrics.histogram(histogram)
        assert counter is not None
        assert durations is not None
        counter.add(2)
        for amount in (0.5, 1.0, 1.5, 5.0):
            durations.record(amount)
    assert values(board) == {(COUNTER.name,): [[4.0]], ("x",): [[16.0, 4.0, 2.0, 2.0]]}


def test_gauges_of_a_worker_that_ended_do_not_count() -> None:
    board = Board()
    metrics = worker(board, 0)
    metrics.gauge(GAUGE, lambda: 7)
    assert alive(board) == [False]
    metrics.update()
    assert alive(board) == [True]
    assert values(board) == {(GAUGE.name,): [[7.0]]}
    worker(board, 0)
    assert alive(board) == [False]
    ((number,),) = values(board)[(GAUGE.name,)]
    assert isnan(number)


def test_labels_that_a_gauge_no_longer_has_vanish() -> None:
    board = Board()
    metrics = worker(board, 0)
    shown: dict[tuple[str, ...], float] = {("active", "ES256"): 1.0, ("prepared", "ES256"): 2.0}
    metrics.gauge(registry.KEY_AGE, lambda: shown)
    metrics.update()
    del shown["prepared", "ES256"]
    metrics.update()
    found = values(board)
    assert found[registry.KEY_AGE.name, "active", "ES256"] == [[1.0]]
    assert isnan(found[registry.KEY_AGE.name, "prepared", "ES256"][0][0])


@pytest.mark.parametrize("label", ["x" * 60_000, "ü€"])
def test_full_segment_drops_new_series_and_keeps_the_known_ones(
    label: str, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board()
    counter = worker(board, 0).counter(LABELED)
    assert counter is not None
    size = len(json.dumps(label))
    for number in range(100_000 if size < 100 else 40):
        counter.add(1, f"{label}{number}")
    known = values(board)
    assert 30 < len(known) < 100_000
    assert all(each == [[1.0]] for each in known.values())
    counter.add(1, f"{label}0")
    assert values(board)[LABELED.name, f"{label}0"] == [[2.0]]
    assert caplog.text.count("the page of metrics has no room") == 1


def test_entry_that_is_not_visible_yet_is_read_later() -> None:
    segment = Segment()
    segment.add("a", (), 1)
    reader = Segment()
    length = int(segment.numbers[33])
    reader.numbers[33] = length  # the length arrives first
    assert list(reader.series()) == []
    begin = 65_536 * 8
    reader._view[begin : begin + length] = segment._view[begin : begin + length]
    assert [each.name for each in reader.series()] == ["a"]

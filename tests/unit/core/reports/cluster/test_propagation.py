"""Measurements of several nodes become one summary."""

from __future__ import annotations

from math import inf

from token_service.core.reports.cluster.propagation import PropagationSummary, summarize
from token_service.core.subscribers.node_details import Reached


def test_slowest_node_decides_when_a_revocation_has_reached_all() -> None:
    one = [Reached(1, 100.0, 0.2), Reached(2, 200.0, 0.1)]
    other = [Reached(1, 100.0, 0.9), Reached(2, 200.0, 0.05), Reached(3, 300.0, 0.4)]
    assert summarize([one, other, []], lowest=inf) == PropagationSummary(
        3, 0.4, 0.9, 0.9, 300.0, (other[0], one[1], other[2])
    )


def test_revocation_that_some_node_has_not_confirmed_does_not_count() -> None:
    measured = [[Reached(1, 100.0, 0.2), Reached(2, 200.0, 5.0)]]
    assert summarize(measured, lowest=1) == PropagationSummary(1, 0.2, 0.2, 0.2, 100.0, (measured[0][0],))
    assert summarize(measured, lowest=0) == PropagationSummary()
    assert summarize([], lowest=inf) == PropagationSummary()


def test_percentiles_are_the_smallest_values_that_cover_their_share() -> None:
    measured = [[Reached(n, float(n), n / 100) for n in range(1, 201)]]
    summary = summarize(measured, lowest=inf)
    assert (summary.median, summary.p99, summary.longest) == (1.0, 1.98, 2.0)

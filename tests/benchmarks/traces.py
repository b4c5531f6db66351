"""The cost of traces: a node that traces one call in a hundred, or every call, against a node without traces.

The exporter writes JSON to a log, which costs more than OTLP.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.duel import Effort
from tests.benchmarks.metrics import rows
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases

_SAMPLED = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}


def cost(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the calls that are made most. The reference is the node without traces."""
    yield from rows("1 % traced", _SAMPLED, {}, effort, postgres, at_least=0.95)
    every = {"OTEL_TRACES_EXPORTER": "console"}
    yield from rows("all traced", every, {}, effort, postgres, at_least=None)

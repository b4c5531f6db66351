"""The cost of the rules about risk: a node with all rules against a node without any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.benchmarks import features
from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from token_service.core.risk.signals import SIGNALS, IssuanceRate, RenewalRhythm

_AT_LEAST: Final = 0.95
_UNREACHED: Final = "100000/1s"
"""Of one subject, for whom all tokens of the measurement are issued."""
_TTL: Final = "TOKEN_SERVICE_POLICY__INTERNAL__ACCESS_TOKEN_TTL"


def cost(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure uses from the usual origin, then refreshes that are examined each time: all renew too soon."""
    yield from _rows("rules about risk", "1s", effort, postgres, at_least=_AT_LEAST)
    yield from _rows("rules about risk, each use examined", "1h", effort, postgres, at_least=None)


def _rows(
    feature: str, ttl: str, effort: Effort, postgres: PostgresDatabases, *, at_least: float | None
) -> Iterator[Row]:
    settings = {IssuanceRate.name: f'rate = "{_UNREACHED}"', RenewalRhythm.name: "part = 1\ntimes = 1000"}
    rules = "\n".join(f"[risk.rules.{each.name}]\n{settings.get(each.name, '')}" for each in SIGNALS)
    env = {_TTL: ttl}
    with_rules = features.Node(env, policy=f"{rules}\n[risk.thresholds.default]\n")
    yield from features.rows(feature, with_rules, features.Node(env), effort, postgres, at_least=at_least)

"""The cost of the page of metrics: a node with it against a node without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from tests.benchmarks.duel import Effort, Side, duel
from tests.benchmarks.rpcs import (
    CHAINS,
    Target,
    access_request,
    refresh_request,
    session_request,
    target,
    validate_request,
)
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from token_service.v1 import token_service_pb2 as pb

_AT_LEAST = 0.98


def cost(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the calls that are made most. The reference is the node without metrics."""
    place = "TOKEN_SERVICE_METRICS_ADDRESS"
    yield from rows("metrics", {place: "http"}, {place: "off"}, effort, postgres, at_least=_AT_LEAST)


def rows(
    feature: str,
    env: dict[str, str],
    without: dict[str, str],
    effort: Effort,
    postgres: PostgresDatabases,
    *,
    at_least: float | None,
) -> Iterator[Row]:
    """Measure the calls that are made most. The reference is the node with the settings of `without`."""

    def row(what: str, method: str, prepare: Callable[[Target], list[bytes]], **job: object) -> Row:
        databases = [postgres.create_database() for _ in range(2)] if job else ["", ""]
        return _row(
            f"{what}, {feature}",
            method,
            effort,
            prepare,
            [
                {**given, **({"TOKEN_SERVICE_DATABASE_URL": database} if database else {})}
                for given, database in zip((env, without), databases, strict=True)
            ],
            at_least,
            **job,
        )

    yield row("ValidateToken, the same token", "ValidateToken", _validate)
    yield row("IssueToken, access only, ES256", "IssueToken", _access)
    yield row("RefreshToken, ES256, PostgreSQL", "RefreshToken", _refresh, replies="refresh")


def _validate(target: Target) -> list[bytes]:
    issued = pb.IssueTokenResponse.FromString(target.call("IssueToken", _access(target)[0]))
    return [validate_request(issued.access_token).SerializeToString()]


def _access(_: Target) -> list[bytes]:
    return [access_request().SerializeToString()]


def _refresh(target: Target) -> list[bytes]:
    replies = target.many("IssueToken", session_request().SerializeToString(), CHAINS)
    tokens = [pb.IssueTokenResponse.FromString(reply).refresh_token for reply in replies]
    return [refresh_request(token).SerializeToString() for token in tokens]


def _row(
    what: str,
    method: str,
    effort: Effort,
    prepare: Callable[[Target], list[bytes]],
    envs: Sequence[dict[str, str]],
    at_least: float | None,
    **job: object,
) -> Row:
    with ExitStack() as stack:
        sides = []
        for env in envs:
            service = stack.enter_context(target({**env, "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}))
            load = stack.enter_context(service.load(method, prepare(service), **job))
            sides.append(Side(load, service.service.pid))
        outcome = duel(*sides, rounds=2 * effort.rounds, seconds=effort.seconds / 2)
    ours, without = outcome.rate_cells
    return Row(what, ours, f"off {without}", outcome.rate, at_least=at_least, note=outcome.note)

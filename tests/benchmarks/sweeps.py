"""Curves: how long calls take, how the rate follows concurrency, and how costs follow sizes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.benchmarks.chart import Chart
from tests.benchmarks.duel import Effort
from tests.benchmarks.load import PERCENTS, Load, Run
from tests.benchmarks.noop import Noop
from tests.benchmarks.rpcs import (
    CHAINS,
    Target,
    access_request,
    load_at,
    refresh_request,
    session_request,
    target,
    validate_request,
)
from tests.support.postgres import PostgresDatabases
from tests.support.token_mint import ISSUER, Mint
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import IssuerRules, Verifier
from token_service.v1 import token_service_pb2 as pb

_CALLERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CONNECTIONS = 4
_FEW: dict[str, object] = {"connections": 2, "concurrency": 2}
"""Few enough that a call hardly waits for another one."""
_DISTINCT = 48_000
_STEP = 8_000
"""Tokens between those of two load generators: more than one uses, so that a token comes again when no cache has it."""
_SCOPES = (2, 10, 50, 100, 200, 400)


@dataclass(frozen=True)
class _Curve:
    """A method under load. `reply` is one of its replies, for the no-op server.

    `requests` makes the requests of a load generator: a refresh token counts once.
    """

    name: str
    target: Target
    method: str
    requests: Callable[[], Sequence[bytes]]
    reply: bytes
    replies: str = "drop"

    def load(self, **job: object) -> Load:
        return self.target.load(self.method, self.requests(), replies=self.replies, **job)


def latency(effort: Effort, postgres: PostgresDatabases) -> Iterator[Chart]:
    """Measure how long calls of four callers take, as a distribution."""
    curves = {}
    with ExitStack() as stack:
        methods = list(_methods(stack, postgres))
        noop = stack.enter_context(Noop(methods[0].method, methods[0].reply))
        directory = methods[0].target.directory / "noop"
        loads = {
            "no-op server": stack.enter_context(
                load_at(noop.address, directory, methods[0].method, methods[0].requests(), **_FEW)
            ),
            **{method.name: stack.enter_context(method.load(**_FEW)) for method in methods},
        }
        for load in loads.values():
            load.run(1.0)
        runs: dict[str, list[Run]] = {name: [] for name in loads}
        for _ in range(effort.rounds):
            for name, load in loads.items():
                runs[name].append(load.run(effort.seconds))
        for name, found in runs.items():
            curves[name] = [
                (median(run.distribution[place] for run in found) * 1e3, percent)
                for place, percent in enumerate(PERCENTS)
            ]
    yield Chart(
        "latency",
        "Latency of calls (4 callers)",
        "milliseconds",
        "percent of calls that are faster",
        curves,
        x_scale="log",
    )


def concurrency(effort: Effort, postgres: PostgresDatabases) -> Iterator[Chart]:
    """Measure the rate of one node with growing numbers of concurrent callers."""
    rounds = max(3, effort.rounds // 3)
    with ExitStack() as stack:
        methods = list(_methods(stack, postgres))
        noop = stack.enter_context(Noop(methods[0].method, methods[0].reply))
        found: dict[str, dict[int, list[float]]] = {
            name: {callers: [] for callers in _CALLERS}
            for name in ("no-op server", *(method.name for method in methods))
        }
        for callers in _CALLERS:
            connections = min(_CONNECTIONS, callers)
            job: dict[str, object] = {
                "connections": connections,
                "concurrency": callers // connections,
            }
            directory = methods[0].target.directory / "noop"
            with ExitStack() as loads:
                sides = [
                    loads.enter_context(
                        load_at(noop.address, directory, methods[0].method, methods[0].requests(), **job)
                    ),
                    *(loads.enter_context(method.load(**job)) for method in methods),
                ]
                for _ in range(rounds):
                    for name, side in zip(found, sides, strict=True):
                        found[name][callers].append(side.run(effort.seconds / 2).rate)
    yield Chart(
        "concurrency",
        "Calls a second by concurrent callers (one node, one worker)",
        "concurrent callers",
        "calls a second",
        {
            name: [(callers, median(rates)) for callers, rates in points.items()]
            for name, points in found.items()
        },
        x_scale="log",
    )


def _methods(stack: ExitStack, postgres: PostgresDatabases) -> Iterator[_Curve]:
    rsa = stack.enter_context(target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}))
    database = {"TOKEN_SERVICE_DATABASE_URL": postgres.create_database()}
    ecdsa = stack.enter_context(target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **database}))
    access, session = access_request().SerializeToString(), session_request().SerializeToString()
    issued = rsa.many("IssueToken", access, _DISTINCT)
    tokens = [pb.IssueTokenResponse.FromString(reply).access_token for reply in issued]
    requests = [validate_request(token).SerializeToString() for token in tokens]
    validated = rsa.call("ValidateToken", requests[-1])
    yield _Curve("ValidateToken, the same token", rsa, "ValidateToken", lambda: requests[-1:], validated)
    rotated = deque(requests)

    def distinct() -> Sequence[bytes]:
        rotated.rotate(-_STEP)
        return list(rotated)

    yield _Curve("ValidateToken, distinct, RS256", rsa, "ValidateToken", distinct, validated)
    issue = ecdsa.call("IssueToken", access)
    yield _Curve("IssueToken, access, ES256", ecdsa, "IssueToken", lambda: [access], issue)
    opened = ecdsa.call("IssueToken", session)
    yield _Curve("IssueToken, session, PostgreSQL", ecdsa, "IssueToken", lambda: [session], opened)

    def chains() -> Sequence[bytes]:
        sessions = map(pb.IssueTokenResponse.FromString, ecdsa.many("IssueToken", session, CHAINS))
        return [refresh_request(each.refresh_token).SerializeToString() for each in sessions]

    yield _Curve("RefreshToken, PostgreSQL", ecdsa, "RefreshToken", chains, opened, "refresh")


def token_size(effort: Effort) -> Iterator[Chart]:
    """Measure the verification of tokens never seen before, by their size."""
    mint, now = Mint("RS256"), time.time()
    key = mint.key.public_key()
    assert isinstance(key, RSAPublicKey)
    rules = IssuerRules(ISSUER, frozenset({Algorithm.RS256}))
    verifier = Verifier([(rules, KeySet.from_jwks([mint.jwk]))])
    ours, raw = [], []
    for count in _SCOPES:
        scope = " ".join(f"orders-{number}:read" for number in range(count))
        tokens = [mint.token(now, scope=scope, jti=f"never-{number}") for number in range(100)]
        parts = [token.rpartition(".") for token in tokens]
        signed = [(base64url.decode(signature.encode()), text.encode()) for text, _, signature in parts]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(effort.rounds * 2):
            began = time.perf_counter()
            for token in tokens:
                verifier.verify(token)
            between = time.perf_counter()
            for signature, text in signed:
                key.verify(signature, text, PKCS1v15(), SHA256())
            times[0].append((between - began) / len(tokens))
            times[1].append((time.perf_counter() - between) / len(tokens))
        ours.append((float(len(tokens[0])), median(times[0]) * 1e6))
        raw.append((float(len(tokens[0])), median(times[1]) * 1e6))
    yield Chart(
        "token-size",
        "Verification of a token never seen before, by its size (RS256)",
        "bytes of the token",
        "microseconds",
        {"verifier of the client library": ours, "no-op: public_key.verify alone": raw},
    )

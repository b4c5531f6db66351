"""ValidateToken, IssueToken and RefreshToken over loopback, each against a no-op server with messages of the same size."""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks.duel import Effort, Outcome, Side, duel
from tests.benchmarks.load import Job, Load, read_messages, write_messages
from tests.benchmarks.noop import Noop, Work, worker
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from tests.support.processes import ServiceProcess
from token_service.v1 import token_pb2, token_service_pb2 as pb

SERVICE = "/token_service.v1.TokenService/"
CHAINS = 512
"""Sessions whose tokens are refreshed in chains: somewhat more than concurrent calls."""
DISTINCT = 24_000
"""Tokens that are validated in turn: more than a server caches, so each is new to it every time."""


def claims() -> dict[str, Any]:
    """Return the claims of an ordinary token."""
    return {
        "subject": "user-7f3a9c21",
        "client_id": "web",
        "audience": ["https://api.example"],
        "scopes": ["orders:read", "orders:write"],
    }


def access_request() -> pb.IssueTokenRequest:
    """Return a request for an access token alone."""
    return pb.IssueTokenRequest(**claims(), token_types=[token_pb2.TOKEN_TYPE_ACCESS])


def session_request() -> pb.IssueTokenRequest:
    """Return a request for an access and a refresh token."""
    return pb.IssueTokenRequest(**claims(), device_id="phone-1")


def refresh_request(refresh_token: str) -> pb.RefreshTokenRequest:
    """Return a request that exchanges a refresh token."""
    return pb.RefreshTokenRequest(refresh_token=refresh_token, client_id="web", device_id="phone-1")


def validate_request(token: str) -> pb.ValidateTokenRequest:
    """Return a request as a gateway sends it."""
    return pb.ValidateTokenRequest(
        token=token, audience="https://api.example", required_scopes=["orders:read"]
    )


@dataclass
class Target:
    """A running service and a directory for its requests."""

    service: ServiceProcess
    directory: Path

    def call(self, method: str, request: bytes) -> bytes:
        """Make one call and return the reply."""
        with grpc.insecure_channel(self.service.grpc_address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVICE + method)
            return call(request, timeout=30)

    def many(self, method: str, request: bytes, count: int) -> list[bytes]:
        """Send the same request `count` times and return the replies."""
        kept = self.directory / "kept"
        with self.load(method, [request], replies="keep", kept=str(kept)) as load:
            load.calls(count)
        return read_messages(kept)

    def load(self, method: str, requests: Sequence[bytes], **job: object) -> Load:
        """Return a load generator for this service."""
        return load_at(self.service.grpc_address, self.directory / f"{method}.ours", method, requests, **job)

    def duel(
        self,
        method: str,
        requests: Sequence[bytes],
        reply: bytes,
        effort: Effort,
        *,
        work: Work | None = None,
        **job: object,
    ) -> Outcome:
        """Measure against a no-op server, which may have `work`. `reply`: a reply of ours."""
        with (
            Noop(method, reply, work=work) as noop,
            self.load(method, requests, **job) as ours,
            load_at(noop.address, self.directory / f"{method}.noop", method, requests) as reference,
        ):
            return duel(
                Side(ours, self.service.pid),
                Side(reference, noop.pid),
                rounds=effort.rounds,
                seconds=effort.seconds,
            )


def load_at(address: str, path: Path, method: str, requests: Sequence[bytes], **job: object) -> Load:
    """Return a load generator for any server. `path`: the file for the requests; `job`: see `Job`."""
    write_messages(path, requests)
    return Load(Job(address, SERVICE + method, str(path), **job))  # type: ignore[arg-type]


@contextmanager
def target(env: dict[str, str], **options: Any) -> Iterator[Target]:
    """Yield a service with these settings and defaults otherwise. `options`: see `ServiceProcess`."""
    with ServiceProcess(env=env, **options) as service, tempfile.TemporaryDirectory() as directory:
        yield Target(service, Path(directory))


def validate_repeated(effort: Effort) -> Iterator[Row]:
    """Measure validations of the same token."""
    with target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}) as ours:
        issued = pb.IssueTokenResponse.FromString(
            ours.call("IssueToken", access_request().SerializeToString())
        )
        request = validate_request(issued.access_token).SerializeToString()
        reply = ours.call("ValidateToken", request)
        assert pb.ValidateTokenResponse.FromString(reply).active
        outcome = ours.duel("ValidateToken", [request], reply, effort)
    yield _row("ValidateToken, the same token", outcome, 0.80)


def validate_distinct(effort: Effort) -> Iterator[Row]:
    """Measure validations of tokens that the server has not cached, so that each is verified."""
    with target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}) as ours:
        replies = ours.many("IssueToken", access_request().SerializeToString(), DISTINCT)
        requests = [
            validate_request(pb.IssueTokenResponse.FromString(reply).access_token).SerializeToString()
            for reply in replies
        ]
        reply = ours.call("ValidateToken", requests[-1])
        assert pb.ValidateTokenResponse.FromString(reply).active
        outcome = ours.duel("ValidateToken", requests, reply, effort)
        limit = ours.duel("ValidateToken", requests, reply, effort, work="verify RS256")
    yield _row(
        "ValidateToken, distinct tokens (RS256)",
        outcome,
        0.75,
        note=f"a bare RS256 verification takes {_verification() * 1e6:.0f} us of it when nothing else runs",
    )
    yield _limit_row("ValidateToken, distinct tokens (RS256)", "verifies", limit)


def issue_access(effort: Effort) -> Iterator[Row]:
    """Measure a signature without a database."""
    with target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as ours:
        request = access_request().SerializeToString()
        reply = ours.call("IssueToken", request)
        outcome = ours.duel("IssueToken", [request], reply, effort)
        limit = ours.duel("IssueToken", [request], reply, effort, work="sign ES256")
    yield _row("IssueToken, access only, ES256", outcome, 0.65)
    yield _limit_row("IssueToken, access only, ES256", "signs", limit)


def issue_session(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure a new session in the database with an RSA signature."""
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256",
        "TOKEN_SERVICE_DATABASE_URL": postgres.create_database(),
    }
    with target(env) as ours:
        request = session_request().SerializeToString()
        reply = ours.call("IssueToken", request)
        outcome = ours.duel("IssueToken", [request], reply, effort)
    yield _row("IssueToken, access + refresh, RS256, PostgreSQL", outcome, 0.30)


def refresh(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure a rotation in the database."""
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_DATABASE_URL": postgres.create_database(),
    }
    with target(env) as ours:
        sessions = ours.many("IssueToken", session_request().SerializeToString(), CHAINS)
        tokens = [pb.IssueTokenResponse.FromString(reply).refresh_token for reply in sessions]
        requests = [refresh_request(token).SerializeToString() for token in tokens]
        outcome = ours.duel("RefreshToken", requests, sessions[0], effort, replies="refresh")
    yield _row("RefreshToken, ES256, PostgreSQL", outcome, 0.40)


def reference(effort: Effort) -> Iterator[Row]:
    """Measure the reference against the barest possible server, for comparison with other references."""
    request = access_request().SerializeToString()
    reply = pb.IssueTokenResponse(access_token="x" * 880).SerializeToString()
    with (
        tempfile.TemporaryDirectory() as directory,
        Noop("IssueToken", reply) as noop,
        Noop("IssueToken", reply, barest=True) as barest,
        load_at(noop.address, Path(directory) / "noop", "IssueToken", [request]) as ours,
        load_at(barest.address, Path(directory) / "barest", "IssueToken", [request]) as other,
    ):
        outcome = duel(
            Side(ours, noop.pid), Side(other, barest.pid), rounds=effort.rounds, seconds=effort.seconds
        )
    rate, barest_rate = outcome.rate_cells
    yield Row(
        "the no-op server itself", f"no-op {rate}", f"barest {barest_rate}", outcome.rate, note=outcome.note
    )


def _verification() -> float:
    """Return the shortest time of `public_key.verify` in seconds."""
    return min(timeit.repeat(worker("verify RS256"), number=100, repeat=50)) / 100


def _limit_row(what: str, work: str, outcome: Outcome) -> Row:
    ours, reference = outcome.rate_cells
    return Row(f"{what}, by a no-op server that {work}", ours, reference, outcome.rate, note=outcome.note)


def _row(what: str, outcome: Outcome, goal: float, note: str = "") -> Row:
    ours, reference = outcome.rate_cells
    notes = "; ".join(filter(None, (outcome.note, note)))
    return Row(what, ours, f"no-op {reference}", outcome.rate, at_least=goal, note=notes)

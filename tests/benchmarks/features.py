"""The cost of features: a node with a feature against a node without it, at the calls that are made most."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

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
from token_service.v1 import client_service_pb2, client_service_pb2_grpc, token_service_pb2 as pb

_EACH: Final = 0.95
_TOGETHER: Final = 0.88
_METRICS: Final = "TOKEN_SERVICE_METRICS_ADDRESS"
_SAMPLED: Final = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}
_UNREACHED: Final = "100000/1s"
_RATES: Final = f"""
[classifications.internal.rates]
issue_per_client = "{_UNREACHED}"
issue_per_subject = "{_UNREACHED}"
refresh_per_client = "{_UNREACHED}"
"""
_QUIET: Final = {"TOKEN_SERVICE_LOG_LEVEL": "warning"}
_CALLER: Final = "orders"


Prepare = Callable[[Target], list[bytes]]
"""Makes the requests for a node."""


def _no_proof(_: Target) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Node:
    """A node to measure. `policy`: the text of its policy file. `proof` makes the metadata of the calls."""

    env: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    proof: Callable[[Target], Mapping[str, str]] = _no_proof


def metrics(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the page of metrics."""
    yield from rows("metrics", Node({_METRICS: "http"}), Node({_METRICS: "off"}), effort, postgres)


def traces(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure traces of one call in a hundred, and of every call.

    The exporter writes JSON to a log, which costs more than OTLP.
    """
    yield from rows("1 % traced", Node(_SAMPLED), Node(), effort, postgres)
    every = Node({"OTEL_TRACES_EXPORTER": "console"})
    yield from rows("all traced", every, Node(), effort, postgres, at_least=None)


def audit_lines(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the lines of the audit log."""
    yield from rows("audit lines", Node(), Node(_QUIET), effort, postgres)


def rates(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure three rates that are never exceeded, in memory.

    A rate of refreshes for each subject costs a statement more: the session that has the subject is read first.
    """
    yield from rows("rates", Node(policy=_RATES), Node(), effort, postgres)


def callers(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure calls that prove a registered client by its secret, within its rights."""
    yield from rows("callers and rights", Node(proof=_register), Node(), effort, postgres)


def together(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure all of them at once, traces of one call in a hundred included."""
    every = Node({_METRICS: "http", **_SAMPLED}, _RATES, _register)
    none = Node({_METRICS: "off", **_QUIET})
    yield from rows("all features", every, none, effort, postgres, at_least=_TOGETHER)


def rows(
    feature: str,
    ours: Node,
    reference: Node,
    effort: Effort,
    postgres: PostgresDatabases,
    *,
    at_least: float | None = _EACH,
) -> Iterator[Row]:
    """Measure the calls that are made most at two nodes. The reference is the node without the feature."""
    nodes = (ours, reference)

    def row(what: str, method: str, prepare: Prepare, **job: object) -> Row:
        return _row(f"{what}, {feature}", method, effort, prepare, nodes, postgres, at_least, job)

    yield row("ValidateToken, the same token", "ValidateToken", _validate)
    yield row("IssueToken, access only, ES256", "IssueToken", _access)
    yield row("RefreshToken, ES256, PostgreSQL", "RefreshToken", _refresh, replies="refresh")


def _row(
    what: str,
    method: str,
    effort: Effort,
    prepare: Prepare,
    nodes: Sequence[Node],
    postgres: PostgresDatabases,
    at_least: float | None,
    job: Mapping[str, object],
) -> Row:
    with ExitStack() as stack:
        sides = []
        for node in nodes:
            database = {"TOKEN_SERVICE_DATABASE_URL": postgres.create_database()} if job else {}
            service = stack.enter_context(_started(node, database))
            metadata = node.proof(service)
            load = stack.enter_context(service.load(method, prepare(service), metadata=metadata, **job))
            sides.append(Side(load, service.service.pid))
        outcome = duel(*sides, rounds=2 * effort.rounds, seconds=effort.seconds / 2)
    rate, without = outcome.rate_cells
    return Row(what, rate, f"off {without}", outcome.rate, at_least=at_least, note=outcome.note)


@contextmanager
def _started(node: Node, database: Mapping[str, str]) -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as directory:
        env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **node.env, **database}
        if node.policy:
            file = Path(directory, "policy.toml")
            file.write_text(node.policy, encoding="utf-8")
            env["TOKEN_SERVICE_POLICY_FILE"] = str(file)
        with target(env) as service:
            yield service


def _register(ours: Target) -> Mapping[str, str]:
    """Register a client that may make the measured calls within bounds, and return its proof."""
    client = client_service_pb2.Client(
        client_id=_CALLER,
        token_endpoint_auth_method="TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC",
        rights=[
            client_service_pb2.Right(permission="validate"),
            client_service_pb2.Right(permission="refresh", clients=["web"]),
            client_service_pb2.Right(
                permission="issue",
                clients=["web"],
                scopes=["orders:*"],
                audiences=["https://api.example"],
                may=["other_subjects"],
            ),
        ],
    )
    with grpc.insecure_channel(ours.service.grpc_address) as channel:
        stub = client_service_pb2_grpc.ClientServiceStub(channel)
        request = client_service_pb2.CreateClientRequest(client=client)
        secret = stub.CreateClient(request, timeout=30).client_secret
    pair = base64.b64encode(f"{_CALLER}:{secret}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


def _validate(target: Target) -> list[bytes]:
    issued = pb.IssueTokenResponse.FromString(target.call("IssueToken", _access(target)[0]))
    return [validate_request(issued.access_token).SerializeToString()]


def _access(_: Target) -> list[bytes]:
    return [access_request().SerializeToString()]


def _refresh(target: Target) -> list[bytes]:
    replies = target.many("IssueToken", session_request().SerializeToString(), CHAINS)
    tokens = [pb.IssueTokenResponse.FromString(reply).refresh_token for reply in replies]
    return [refresh_request(token).SerializeToString() for token in tokens]

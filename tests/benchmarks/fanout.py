"""The time of a revocation to reach many validators."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import grpc
import psutil

from tests.benchmarks.duel import Effort
from tests.benchmarks.rpcs import SERVICE, access_request, target
from tests.benchmarks.table import Row
from token_service.v1 import token_service_pb2 as pb

_SUBSCRIBERS = 1000
_LIMIT = 0.100


def revoked_everywhere(effort: Effort) -> Iterator[Row]:
    """Measure from the call of RevokeToken to the rejection by the last of 1,000 validators, all on this machine."""
    with target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as ours:
        server = psutil.Process(ours.service.pid)
        before = server.memory_info().rss
        jwks = urllib.request.urlopen(f"{ours.service.http_url}/.well-known/jwks.json", timeout=10).read()
        first = pb.IssueTokenResponse.FromString(
            ours.call("IssueToken", access_request().SerializeToString())
        )
        claims = pb.ValidateTokenResponse.FromString(
            ours.call("ValidateToken", pb.ValidateTokenRequest(token=first.access_token).SerializeToString())
        ).claims
        command = [ours.service.grpc_address, claims.issuer, jwks.decode(), str(_SUBSCRIBERS)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.subscribers", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            times = _revoke_repeatedly(ours.service.grpc_address, process, max(10, effort.rounds * 2))
            after = server.memory_info().rss
        finally:
            process.kill()
            process.wait()
    ordered = sorted(times)
    p50, p99 = (ordered[len(ordered) * percent // 100] for percent in (50, 99))
    yield Row(
        f"revoked -> rejected by {_SUBSCRIBERS:,} subscribers, p99",
        f"{p99 * 1e3:.0f} ms",
        f"limit {_LIMIT * 1e3:.0f} ms",
        p99 / _LIMIT,
        at_most=1.0,
        note=f"p50 {p50 * 1e3:.0f} ms, last {ordered[-1] * 1e3:.0f} ms; the server's memory "
        f"{after / 2**20:.0f} MiB, before the streams {before / 2**20:.0f} MiB",
    )


def _revoke_repeatedly(address: str, subscribers: subprocess.Popen[str], times: int) -> list[float]:
    _ask(subscribers)
    found: list[float] = []
    with grpc.insecure_channel(address) as channel:
        issue: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVICE + "IssueToken")
        revoke: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVICE + "RevokeToken")
        for _ in range(times):
            issued = pb.IssueTokenResponse.FromString(issue(access_request().SerializeToString(), timeout=30))
            _ask(subscribers, f"watch {issued.access_token}")
            request = pb.RevokeTokenRequest(token=issued.access_token).SerializeToString()
            began = time.monotonic()
            revoke(request, timeout=30)
            found += _ask(subscribers, f"since {began}")
    return found


def _ask(process: subprocess.Popen[str], line: str = "") -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"the subscribers failed: {process.wait()}")
    return json.loads(answer)

"""`scripts/bench --against DIRECTORY`: this checkout against another one, in one run.

Both sides are complete programs with their own environments, and take turns. The ratio of a row is this checkout's rate
divided by the other's: the median of all pairs of rounds. The row's note has the ratio of processor times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

from tests.benchmarks.duel import Effort, Outcome, Side, duel
from tests.benchmarks.rpcs import (
    CHAINS,
    DISTINCT,
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

_LOOP = Path(__file__).with_name("client_loop.py")
_ISSUER = "https://tokens.example"
_FIRST_SIGHTS = 2_000
_AT_LEAST = 0.97
"""Lowest ratio allowed for any row."""

_S = TypeVar("_S")
Prepare = Callable[[Target], list[bytes]]
"""Makes the requests for a service."""


def rows(other: Path, effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Yield all rows. Raise `SystemExit` if the other checkout has no environment."""
    python = other / ".venv" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{other} has no .venv; run {other}/scripts/env dev first")
    yield _served(python, effort, "ValidateToken, the same token", "ValidateToken", _rsa(), _same)
    yield _served(
        python, effort, "ValidateToken, distinct tokens (RS256)", "ValidateToken", _rsa(), _distinct
    )
    yield _served(python, effort, "IssueToken, access only, ES256", "IssueToken", _ecdsa(), _access)
    yield _served(
        python,
        effort,
        "IssueToken, access + refresh, RS256, PostgreSQL",
        "IssueToken",
        _rsa(postgres),
        _session,
    )
    yield _served(
        python,
        effort,
        "RefreshToken, ES256, PostgreSQL",
        "RefreshToken",
        _ecdsa(postgres),
        _refresh,
        replies="refresh",
    )
    yield _served(
        python,
        effort,
        "RevokeToken of a client, PostgreSQL",
        "RevokeToken",
        lambda: {**_ecdsa(postgres)(), "TOKEN_SERVICE_MAX_REVOCATIONS_PER_CALLER": "10000000"},
        _revoke,
    )
    yield from _client(python, effort)
    yield _import(python, effort)


def _rsa(postgres: PostgresDatabases | None = None) -> Callable[[], dict[str, str]]:
    return lambda: {"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256", **_database(postgres)}


def _ecdsa(postgres: PostgresDatabases | None = None) -> Callable[[], dict[str, str]]:
    return lambda: {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **_database(postgres)}


def _database(postgres: PostgresDatabases | None) -> dict[str, str]:
    return {"TOKEN_SERVICE_DATABASE_URL": postgres.create_database()} if postgres is not None else {}


def _token(target: Target) -> str:
    reply = target.call("IssueToken", access_request().SerializeToString())
    return pb.IssueTokenResponse.FromString(reply).access_token


def _same(target: Target) -> list[bytes]:
    return [validate_request(_token(target)).SerializeToString()]


def _distinct(target: Target) -> list[bytes]:
    replies = target.many("IssueToken", access_request().SerializeToString(), DISTINCT)
    tokens = [pb.IssueTokenResponse.FromString(reply).access_token for reply in replies]
    return [validate_request(token).SerializeToString() for token in tokens]


def _access(target: Target) -> list[bytes]:
    return [access_request().SerializeToString()]


def _session(target: Target) -> list[bytes]:
    return [session_request().SerializeToString()]


def _revoke(target: Target) -> list[bytes]:
    return [
        pb.RevokeTokenRequest(client_id=f"client-{number}").SerializeToString() for number in range(CHAINS)
    ]


def _refresh(target: Target) -> list[bytes]:
    replies = target.many("IssueToken", session_request().SerializeToString(), CHAINS)
    tokens = [pb.IssueTokenResponse.FromString(reply).refresh_token for reply in replies]
    return [refresh_request(token).SerializeToString() for token in tokens]


def _served(
    python: Path,
    effort: Effort,
    what: str,
    method: str,
    env: Callable[[], dict[str, str]],
    prepare: Prepare,
    **job: object,
) -> Row:
    print(f"bench: {what} …", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        sides = []
        for interpreter in (Path(sys.executable), python):
            command = (str(interpreter), "-P", "-m", "token_service", "serve")
            service = stack.enter_context(target(env(), command=command))
            load = stack.enter_context(service.load(method, prepare(service), **job))
            sides.append(Side(load, service.service.pid))
        outcome = duel(*sides, rounds=effort.rounds, seconds=effort.seconds)
    return _row(what, outcome)


def _row(what: str, outcome: Outcome) -> Row:
    ours, theirs = outcome.rate_cells
    return Row(what, ours, f"other {theirs}", outcome.rate, at_least=_AT_LEAST, note=outcome.note)


class _Loop:
    """A program that validates tokens with the client library of one checkout."""

    def __init__(self, python: Path, address: str, issuer: str) -> None:
        self._process = subprocess.Popen(
            [str(python), "-P", str(_LOOP), address, issuer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> float:
        """Return the microseconds of processor time for each validation."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()


def _client(python: Path, effort: Effort) -> Iterator[Row]:
    print("bench: the client library …", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        service = stack.enter_context(target({**_rsa()(), "TOKEN_SERVICE_ISSUER": _ISSUER}))
        replies = service.many("IssueToken", access_request().SerializeToString(), _FIRST_SIGHTS)
        tokens = stack.enter_context(
            _file([pb.IssueTokenResponse.FromString(each).access_token for each in replies])
        )
        loops = []
        for interpreter in (Path(sys.executable), python):
            loop = _Loop(interpreter, service.service.grpc_address, _ISSUER)
            stack.callback(loop.close)
            loops.append(loop)
        for what, command in (
            ("validate, the same token", "cached"),
            ("validate, first sight, RS256", "first"),
        ):
            line = f"{command} {tokens}"

            def run(loop: _Loop, line: str = line) -> float:
                return loop.run(line)

            pairs = _pairs(run, loops, effort.rounds)
            yield _times(what, pairs, "us")


@contextmanager
def _file(lines: list[str]) -> Iterator[str]:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"tokens-{os.getpid()}"
    path.write_text("\n".join(lines))
    try:
        yield str(path)
    finally:
        path.unlink()


def _import(python: Path, effort: Effort) -> Row:
    code = "import time; t = time.process_time(); from token_service.client import TokenValidator; print(time.process_time() - t)"

    def once(interpreter: Path) -> float:
        done = subprocess.run(
            [str(interpreter), "-P", "-c", code], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    return _times(
        "import TokenValidator", _pairs(once, [Path(sys.executable), python], max(10, effort.rounds)), "s"
    )


def _pairs(run: Callable[[_S], float], sides: Sequence[_S], rounds: int) -> list[tuple[float, float]]:
    for side in sides:
        run(side)
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        times = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            times[which] = run(sides[which])
        found.append((times[0], times[1]))
    return found


def _times(what: str, pairs: list[tuple[float, float]], unit: str) -> Row:
    ours, theirs = (median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = median(other / mine for mine, other in pairs)
    return Row(what, f"{ours:.3f} {unit}", f"other {theirs:.3f} {unit}", ratio, at_least=_AT_LEAST)

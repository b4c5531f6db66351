"""The console with 1,000,000 sessions and 10,000 validators: what its pages cost, and what they cost other callers."""

from __future__ import annotations

import http.client
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from tests.benchmarks.console_node import LARGE, SMALL, ConsoleNode, Peer
from tests.benchmarks.duel import Effort, Side, duel
from tests.benchmarks.load import Run
from tests.benchmarks.rpcs import Target, access_request, validate_request
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from token_service.v1 import token_service_pb2 as pb

_NOOP: Final = "/livez"
_FORM_TOKEN: Final = re.compile(r'name="form_token" value="([^"]+)"')
_LINK: Final = re.compile(r'<li><a href="(/console[^"]*)"')
_NEXT: Final = re.compile(r'href="([^"]*page_token=[^"]*)"')
_AT_MOST: Final = 3.0
_MORE_SUBSCRIBERS: Final = 10.0
"""The goal where the subscribers of all nodes, 50 times as many, are put in order for each page."""
_MAX_BYTES: Final = 200_000
_MAX_ROWS: Final = 100
_OPERATORS: Final = 10
_EVERY: Final = 5.0
"""Seconds between two requests of a live part."""
_CHARTS: Final = ("tokens", "validations", "revocations", "staleness", "validators", "refusals")


@dataclass(frozen=True)
class _Request:
    """A request to the console. `form`: fields of a POST."""

    name: str
    path: str
    form: dict[str, str] = field(default_factory=dict)
    at_most: float | None = _AT_MOST


_REQUESTS: Final = (
    _Request("overview/state", "/console/overview/state"),
    _Request("overview/chart", "/console/overview/chart?name=tokens"),
    _Request("overview/values", "/console/overview/values?name=tokens"),
    _Request("subscribers/rows", "/console/subscribers/rows", at_most=_MORE_SUBSCRIBERS),
    _Request("subscribers of a caller", "/console/subscribers?caller=service-7", at_most=_MORE_SUBSCRIBERS),
    _Request("propagation/times", "/console/propagation/times.json"),
    _Request("sessions of a subject", "/console/sessions?by=subject&value=user-77"),
    _Request("sessions of a large client", "/console/sessions?by=client_id&value=web"),
    _Request("ended, too", "/console/sessions?by=client_id&value=web&ended=1"),
    _Request("revocations/new", "/console/revocations/new?target=client&value=web"),
    # A search without an index examines up to 50,000 entries, in its own turn as the counts below.
    _Request("revocations of a value", "/console/revocations?target=token_id&value=token-5", at_most=None),
    _Request("revocations with a reason", "/console/revocations?reason=compromised", at_most=None),
)
_FORMS: Final = (
    # A count examines up to 50,000 sessions, however many there are.
    _Request("count of the sessions of a client", "/console/sessions/count", {"client_id": "web"}, None),
    _Request(
        "count of sessions by a time",
        "/console/sessions/count",
        {"created_before": "2030-01-01T00:00"},
        None,
    ),
    _Request(
        "preview of a revocation of all",
        "/console/revocations/preview",
        {"target": "everything"},
        None,
    ),
)


@dataclass(frozen=True)
class _Answer:
    seconds: float
    body: bytes

    @property
    def rows(self) -> int:
        """The rows of the longest table."""
        return max((part.count(b"<tr") for part in self.body.split(b"<tbody")[1:]), default=0)


class _Browser:
    """A connection to the console of a node."""

    def __init__(self, address: str) -> None:
        self._http = http.client.HTTPConnection(address, timeout=60)
        self._origin = f"http://{address}"
        self._form_token = ""

    def send(self, request: _Request) -> _Answer:
        """Make a request and return its answer. The status must be 200."""
        method, body, fields = "GET", None, {}
        if request.form:
            if not self._form_token:
                found = _FORM_TOKEN.search(self.get("/console/sessions/select").body.decode())
                assert found is not None
                self._form_token = found.group(1)
            body = urlencode({"form_token": self._form_token, **request.form})
            method = "POST"
            fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self._origin}
        began = time.perf_counter()
        self._http.request(method, request.path, body, fields)
        answer = self._http.getresponse()
        read = answer.read()
        seconds = time.perf_counter() - began
        assert answer.status == 200, (request.path, answer.status, read[:2000])
        return _Answer(seconds, read)

    def get(self, path: str) -> _Answer:
        """Make a request for a page."""
        return self.send(_Request(path, path))


def pages(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure each page of a large service beside that of a small one, on SQLite and on PostgreSQL."""
    for name, urls in (
        ("SQLite", ("", "")),
        ("PostgreSQL", (postgres.create_database(), postgres.create_database())),
    ):
        with ExitStack() as stack:
            large, small = (
                stack.enter_context(
                    ConsoleNode(size, Path(stack.enter_context(tempfile.TemporaryDirectory())), url)
                )
                for size, url in zip((LARGE, SMALL), urls, strict=True)
            )
            for node in (large, small):
                node.fill()
                stack.enter_context(Peer(node))
            yield from compare(name, large, small, effort)
            yield from operators(name, large, effort)


def compare(database: str, large: ConsoleNode, small: ConsoleNode, effort: Effort) -> Iterator[Row]:
    """Measure the pages of two nodes. Both have enough rows for full pages."""
    ours, theirs = (_Browser(node.service.http_address) for node in (large, small))
    navigation = _LINK.findall(ours.get("/console").body.decode())
    assert len(navigation) > 5
    sized = [(request, request) for request in (*map(_page, navigation), *_REQUESTS, *_FORMS)]
    for path in (*navigation, "/console/sessions?by=client_id&value=web"):
        first, second = (_NEXT.search(browser.get(path).body.decode()) for browser in (ours, theirs))
        if first and second:
            sized.append((_second(path, first.group(1)), _second(path, second.group(1))))
    seen: list[tuple[int, int, str]] = []
    for request, other in sized:
        answers = _take_turns(
            (partial(ours.send, request), partial(theirs.send, other), partial(ours.get, _NOOP)),
            2 * effort.rounds,
        )
        here, there, noop = (median(answer.seconds for answer in side) for side in answers)
        size = max(len(answer.body) for answer in answers[0])
        seen.append((size, answers[0][0].rows, request.name))
        yield Row(
            f"{database}: {request.name}",
            f"{here * 1e3:.1f} ms, {size / 1e3:.0f} kB",
            f"small {there * 1e3:.1f} ms, no-op {noop * 1e3:.1f} ms",
            median(a.seconds / b.seconds for a, b in zip(*answers[:2], strict=True)),
            at_most=request.at_most,
            note=f"the slowest took {max(answer.seconds for answer in answers[0]) * 1e3:.0f} ms",
        )
    size, _, where = max(seen)
    limit = f"limit {_MAX_BYTES / 1e3:.0f} kB"
    yield Row(
        f"{database}: largest page",
        f"{size / 1e3:.0f} kB",
        limit,
        size / _MAX_BYTES,
        at_most=1.0,
        note=where,
    )
    _, rows, where = max(seen, key=lambda each: each[1])
    yield Row(
        f"{database}: longest table",
        f"{rows} rows",
        f"limit {_MAX_ROWS}",
        rows / _MAX_ROWS,
        at_most=1.0,
        note=where,
    )


def _second(path: str, link: str) -> _Request:
    return _Request(f"{path}, second page", link.replace("&amp;", "&"), at_most=_goal(path))


def _page(path: str) -> _Request:
    return _Request(path, path, at_most=_goal(path))


def _goal(path: str) -> float:
    return _MORE_SUBSCRIBERS if path.endswith("/subscribers") else _AT_MOST


def _take_turns(sends: Sequence[Callable[[], _Answer]], rounds: int) -> Sequence[Sequence[_Answer]]:
    """Return the answers of each side, without those of a first round, which fills caches."""
    sides: list[list[_Answer]] = [[] for _ in sends]
    turns = list(zip(sides, sends, strict=True))
    for number in range(rounds + 1):
        first = number % len(turns)
        for side, send in (*turns[first:], *turns[:first]):
            side.append(send())
    return [side[1:] for side in sides]


def operators(database: str, node: ConsoleNode, effort: Effort) -> Iterator[Row]:
    """Measure calls while operators look at live pages, and while none does."""
    target = node.target
    issued = pb.IssueTokenResponse.FromString(target.call("IssueToken", access_request().SerializeToString()))
    for method, request in (
        ("ValidateToken", validate_request(issued.access_token).SerializeToString()),
        ("IssueToken", access_request().SerializeToString()),
    ):
        yield _watched(f"{database}: {method}", method, request, target, node, effort)


def _watched(
    what: str, method: str, request: bytes, target: Target, node: ConsoleNode, effort: Effort
) -> Row:
    with ExitStack() as stack:
        load = stack.enter_context(target.load(method, [request]))
        operators = stack.enter_context(Operators(node.service.http_address))
        watched = _Switched(load, node.service.pid, operators.resume)
        alone = _Switched(load, node.service.pid, operators.pause)
        outcome = duel(watched, alone, rounds=effort.rounds, seconds=effort.seconds)
    ours, without = outcome.rate_cells
    return Row(
        f"{what} while {_OPERATORS} operators look",
        ours,
        f"none {without}",
        outcome.rate,
        at_least=0.75,
        note=f"{outcome.note}; {operators.requests:,} requests of consoles, "
        f"p50 {outcome.p50s[0] * 1e3:.2f} ms, alone {outcome.p50s[1] * 1e3:.2f} ms",
    )


@dataclass(frozen=True)
class _Switched(Side):
    """A side that is measured after a change of what else goes on."""

    before: Callable[[], None]

    def run(self, seconds: float) -> tuple[Run, float]:
        self.before()
        return super().run(seconds)


class Operators:
    """Operators whose browsers refresh live pages, in a thread: half of them look at the overview."""

    def __init__(self, address: str) -> None:
        overview = ["overview/state", *(f"overview/chart?name={name}" for name in _CHARTS)]
        propagation = ["propagation/state", "propagation/times.json"]
        viewed = [*overview * (_OPERATORS // 2), *["subscribers/rows"] * 3, *propagation * 2]
        self._paths: Final = [f"/console/{path}" for path in viewed]
        self._browser = _Browser(address)
        self._active = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.requests = 0
        """The requests made so far."""

    def resume(self) -> None:
        """Look at the pages."""
        self._active.set()

    def pause(self) -> None:
        """Hide the pages."""
        self._active.clear()

    def _run(self) -> None:
        for path in cycle(self._paths):
            self._active.wait()
            if self._ended.wait(_EVERY / len(self._paths)):
                return
            self._browser.get(path)
            self.requests += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._active.set()
        self._thread.join()

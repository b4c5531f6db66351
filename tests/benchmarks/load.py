"""The load generator: its own process that keeps a server busy with unary calls or POST requests, in a closed loop.

The program reads a job (one line of JSON) and then commands (one per line) from standard input, and answers each with
a line of JSON. Connections stay open between two runs, so that no run measures their setup.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks import http1, http2

_LENGTH = struct.Struct(">I")
PERCENTS = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9)
"""The percentiles of `Run.distribution`."""


@dataclass(frozen=True)
class Job:
    """The calls to make.

    `replies` says what happens to them. `drop`: nothing. `refresh`: the refresh token in each makes the next request,
    so that every caller has its own chain. `keep`: they are written to `kept` in order.
    """

    address: str
    """`HOST:PORT`, or `unix:PATH`."""
    method: str
    requests: str
    """Path of a file of requests, sent in turn."""
    connections: int = 4
    concurrency: int = 16
    """Concurrent calls on each connection of gRPC."""
    replies: str = "drop"
    kept: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Of each call of gRPC."""
    header: str = ""
    """For HTTP/1.1, the request line and the header fields (see `http1.Connection`); empty for gRPC."""


@dataclass(frozen=True)
class Run:
    """The result of a run. Latencies are seconds."""

    calls: int
    seconds: float
    p50: float
    p99: float
    distribution: Sequence[float] = ()
    """The latencies at `PERCENTS`."""

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


def write_messages(path: Path, messages: Iterable[bytes]) -> None:
    """Write messages for `Job.requests`."""
    with path.open("wb") as file:
        for message in messages:
            file.write(_LENGTH.pack(len(message)) + message)


def read_messages(path: Path) -> list[bytes]:
    """Return the messages that `write_messages` wrote."""
    data, at, messages = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        messages.append(data[at : at + length])
        at += length
    return messages


class Load:
    """The generator's process as its user controls it."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._ask(json.dumps(asdict(job)))

    def run(self, seconds: float) -> Run:
        """Keep the server busy for `seconds`."""
        return Run(**self._ask(f"run {seconds}"))

    def calls(self, count: int) -> Run:
        """Make `count` calls, each request once."""
        return Run(**self._ask(f"calls {count}"))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        answer = self._process.stdout.readline()
        if not answer.startswith("{"):
            raise RuntimeError(f"the load generator failed: {answer or self._process.wait()}")
        return json.loads(answer)


class _Generator:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._queue: deque[bytes] = deque(read_messages(Path(job.requests)))
        self._latencies: list[float] = []
        self._failures = 0
        self._left = 0
        self._kept: list[bytes] = []
        self._connections: list[http1.Connection | http2.Connection] = []
        self._done = asyncio.Event()
        if job.replies == "refresh":
            self._next_refresh = _next_form if job.header else _next_message()

    async def connect(self) -> None:
        host, _, port = self._job.address.rpartition(":")
        loop = asyncio.get_running_loop()
        make: Callable[[], http1.Connection | http2.Connection]
        if self._job.header:
            make = partial(http1.Connection, self._job.header.encode(), self._take, self._give)
        else:
            make = partial(
                http2.Connection,
                self._job.method,
                self._job.metadata,
                self._job.concurrency,
                self._take,
                self._give,
            )
        for _ in range(self._job.connections):
            self._connections.append(made := make())
            if host == "unix":
                await loop.create_unix_connection(partial(_same, made), port)
            else:
                await loop.create_connection(partial(_same, made), host, int(port))

    def _take(self) -> tuple[bytes, object] | None:
        if not self._left or not self._queue:
            return None
        self._left -= 1
        request = self._queue.popleft()
        if self._job.replies != "refresh":
            self._queue.append(request)
        return request, request

    def _give(self, tag: Any, reply: bytes | None, seconds: float) -> None:
        self._latencies.append(seconds)
        if reply is None:
            self._failures += 1
        elif self._job.replies == "refresh":
            self._queue.append(self._next_refresh(tag, reply))
        elif self._job.replies == "keep":
            self._kept.append(reply)
        if not self._left:
            self._done.set()

    async def run(self, seconds: float | None, calls: int) -> Run:
        self._latencies.clear()
        self._failures = 0
        self._left = calls
        self._done.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for connection in self._connections:
            connection.start()
        if seconds is not None:
            await asyncio.sleep(seconds)
            self._left = 0
        else:
            while not all(connection.idle for connection in self._connections) or self._left:
                await self._done.wait()
                self._done.clear()
        took = loop.time() - began
        count = len(self._latencies)
        while not all(connection.idle for connection in self._connections):
            await self._done.wait()
            self._done.clear()
        for connection in self._connections:
            connection.running = False
        if self._failures:
            raise SystemExit(f"{self._failures} of {len(self._latencies)} calls failed")
        if self._kept:
            write_messages(Path(self._job.kept), self._kept)
        ordered = sorted(self._latencies)
        distribution = [_percentile(ordered, percent) for percent in PERCENTS]
        return Run(count, took, _percentile(ordered, 50), _percentile(ordered, 99), distribution)


def _same(connection: http1.Connection | http2.Connection) -> http1.Connection | http2.Connection:
    return connection


def _next_message() -> Callable[[bytes, bytes], bytes]:
    from token_service.v1 import token_service_pb2 as pb

    def following(request: bytes, reply: bytes) -> bytes:
        message = pb.RefreshTokenRequest.FromString(request)
        message.refresh_token = pb.RefreshTokenResponse.FromString(reply).refresh_token
        return message.SerializeToString()

    return following


def _next_form(request: bytes, reply: bytes) -> bytes:
    # Refresh tokens need no encoding.
    fields = request.rpartition(b"refresh_token=")[0]
    return fields + b"refresh_token=" + json.loads(reply)["refresh_token"].encode()


def _percentile(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    generator = _Generator(Job(**json.loads(await lines.readline())))
    await generator.connect()
    print("{}", flush=True)
    while line := await lines.readline():
        command, _, argument = line.decode().strip().partition(" ")
        if command == "run":
            run = await generator.run(float(argument), sys.maxsize)
        else:
            run = await generator.run(None, int(argument))
        print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())

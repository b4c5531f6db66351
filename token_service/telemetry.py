"""What the service says about itself: log lines, the audit trail and metrics.

Log lines go to standard error, one line an event, as text or as JSON; only a traceback in text takes more
lines. Every line passes through `redact`, the last line of defence should a token ever get near a log call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol, TextIO

from token_service.errors import ConfigurationError

AUDIT_LOGGER: Final = "token_service.audit"
_ROUTINE: Final = frozenset({"token.issued", "token.refreshed"})
"""Events that there are as many of as calls."""
_HOLD: Final = 0.02
"""Seconds that the line of a routine event may wait for others."""
_MAX_HELD: Final = 256
_MAX_WRITE: Final = 4096
"""Bytes a pipe takes in one piece, whoever else writes into it (PIPE_BUF of Linux)."""

_SECRETS: Final = re.compile(
    r"(?P<jwt>eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*)"
    r"|(?<![A-Za-z0-9])(?P<kind>[rs]t_)[A-Za-z0-9_-]{16,}"
    r"|(?P<url>://[^\s:/@]*:)[^\s@/]+@"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_SIMPLE: Final = re.compile(r"""[^\s"'=]+""").fullmatch
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROL.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"})


def redact(text: str) -> str:
    """`text` without anything that looks like a JWT, an opaque token, a password in a URL or a private key."""
    # Every secret has one of these in it, and to look for them first takes a twentieth of the time.
    if "eyJ" in text or "rt_" in text or "st_" in text or "://" in text or "-----" in text:
        return _SECRETS.sub(_replacement, text)
    return text


def _replacement(match: re.Match[str]) -> str:
    if match["jwt"]:
        return "[JWT]"
    if match["kind"]:
        return f"{match['kind']}[TOKEN]"
    return f"{match['url']}***@" if match["url"] else "[PRIVATE KEY]"


def configure_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send all log lines at or above `level` to `stream`, by default standard error; what was configured
    before is replaced.
    """
    handler = LineHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their lines at these levels are about their own workings.
    for name in ("asyncio", "aiosqlite", "alembic", "sqlalchemy", "uvicorn"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.raiseExceptions = False  # a full disk behind standard error must not fail a call
    # What no line shows need not be found out for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log lines, each at once or, within `together`, several in one go."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._together = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the lines of this block at its end, in as few pieces as a pipe takes whole."""
        self.acquire()
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self.flush()
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001  # as in the library: no log line fails a call
            self.handleError(record)
        if not self._together:
            self.flush()

    def flush(self) -> None:
        """Write what is there."""
        self.acquire()
        lines, self._lines = self._lines, []
        try:
            for piece in _pieces(lines):
                self.stream.write(piece)
                self.stream.flush()
        except (OSError, ValueError):  # a full disk, a stream that is closed
            pass
        finally:
            self.release()


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Whole lines, as many in a piece as `_MAX_WRITE` allows."""
    start = size = 0
    for number, line in enumerate(lines):
        length = len(line) if line.isascii() else len(line.encode("utf-8", "replace"))
        if start < number and size + length > _MAX_WRITE:
            yield "".join(lines[start:number])
            start, size = number, 0
        size += length
    if lines:
        yield "".join(lines[start:])


class TextFormatter(logging.Formatter):
    """`time LEVEL logger message key=value …`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback below it if there is one."""
        line = f"{_timestamp(record)} {record.levelname:<7} {record.name} {record.getMessage()}"
        for name, value in _fields(record).items():
            line += f" {name}={_plain(value)}"
        line = redact(line)
        if not line.isprintable():
            line = line.translate(_CONTROL)
        if traceback := self._traceback(record):
            line += "\n" + "\n".join(
                f"    {row.translate(_CONTROL)}" for row in redact(traceback).splitlines()
            )
        return line

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the event's own fields and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        line: dict[str, Any] = {
            **{name: _jsonable(value) for name, value in _fields(record).items()},
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


class Audit:
    """The audit trail: what happened to which session, token, client or key, by their ids.

    Implements the port `Audit`.

    In an event loop the lines of routine events are written together, up to 20 ms later: one that is made in
    the middle of a call takes three times as long, for nothing it needs is in the processor's caches then.
    Any other event is written at once, after those. `flush` writes what waits; only a process that is killed
    doesn't get to it.
    """

    def __init__(self, counter: Counter | None = None) -> None:
        """`counter` counts the events by their names."""
        self._counter = counter
        self._logger = logging.getLogger(AUDIT_LOGGER)
        self._held: Final[deque[tuple[float, str, dict[str, object]]]] = deque()

    def record(self, event: str, **fields: object) -> None:
        """Write one event, e.g. `record("session.revoked", session_id=…)`.

        Give it ids, never a token, a key or a secret.
        """
        if self._counter is not None:
            self._counter.add(1, {"token_service.event": event})
        if not self._logger.isEnabledFor(logging.INFO):
            return
        held = self._held
        waits = event in _ROUTINE and (bool(held) or self._flush_soon())
        held.append((time.time(), event, fields))
        if not waits or len(held) >= _MAX_HELD:
            self.flush()

    def flush(self) -> None:
        """Write the events that wait."""
        held = self._held
        with ExitStack() as stack:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, LineHandler):
                    stack.enter_context(handler.together())
            while held:
                created, event, fields = held.popleft()
                # What `info` would do, but for finding out where it was called from.
                record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "", 0, event, (), None)
                record.created, record.msecs = created, created % 1 * 1000
                record.fields = fields
                self._logger.handle(record)

    def _flush_soon(self) -> bool:
        """Whether there is an event loop that will do it."""
        try:
            asyncio.get_running_loop().call_later(_HOLD, self.flush)
        except RuntimeError:
            return False
        return True


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = int(record.created)
    return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _plain(value: object) -> str:
    if not isinstance(value, str):
        value = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if not value:
        return '""'
    return value if _SIMPLE(value) else json.dumps(value)


def _jsonable(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    return redact(str(value))


# --- Metrics ----------------------------------------------------------------------------------------------------------


class Counter(Protocol):
    """Something that is counted."""

    def add(self, amount: int, attributes: Mapping[str, str]) -> None:
        """Count `amount` more."""
        ...


class Histogram(Protocol):
    """Something that is measured."""

    def record(self, amount: float, attributes: Mapping[str, str]) -> None:
        """Add one measurement."""
        ...


class Metrics:
    """What is counted and measured, through OpenTelemetry; nothing unless the environment asks for it.

    It does with `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_ENDPOINT` and their like, or by
    `opentelemetry-instrument`. Only then OpenTelemetry is imported: it costs more than anything else at
    start.
    """

    def __init__(self, environ: Mapping[str, str], instance: str) -> None:
        """`instance` tells apart the processes of a service that report to one place."""
        self._meter: Any = None
        self._provider: Any = None
        exporters = find_exporters(environ)
        if exporters or (_is_enabled(environ) and _is_instrumented()):
            self._meter, self._provider = _meter(exporters, instance)

    def close(self) -> None:
        """Report for the last time, for a second at most: an exporter that is away is not waited for.

        Blocks the event loop; call it when nothing else is left to do.
        """
        if self._provider is not None:
            # A daemon: the end of the process does not wait for it either.
            last = threading.Thread(target=self._provider.shutdown, args=(_LAST_REPORT * 1000,), daemon=True)
            last.start()
            last.join(_LAST_REPORT)
            if last.is_alive():
                logging.getLogger(__name__).warning(
                    "the last metrics were not exported within %d s and are lost", _LAST_REPORT
                )
            self._provider = None

    def counter(self, name: str, description: str) -> Counter | None:
        """A counter; None: nobody asks."""
        if self._meter is None:
            return None
        counter: Counter = self._meter.create_counter(name, "1", description)
        return counter

    def histogram(self, name: str, description: str, boundaries: Sequence[float]) -> Histogram | None:
        """A histogram of seconds; None: nobody asks."""
        if self._meter is None:
            return None
        histogram: Histogram = self._meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=boundaries
        )
        return histogram

    def gauge(self, name: str, description: str, read: Callable[[], float], unit: str = "1") -> None:
        """Something that `read` looks up whenever it is asked for, in another thread."""
        if self._meter is not None:
            from opentelemetry.metrics import Observation

            self._meter.create_observable_gauge(name, [lambda _: [Observation(read())]], unit, description)


def find_exporters(environ: Mapping[str, str]) -> list[Any]:
    """The classes of the exporters that the environment asks for, if they are ours to set up.

    Raises `ConfigurationError` for one that is not installed.
    """
    if not _is_enabled(environ) or _is_instrumented():
        return []
    endpoint = any(environ.get(name) for name in _OTLP_ENDPOINTS)
    exporters = environ.get("OTEL_METRICS_EXPORTER", "otlp" if endpoint else "none")
    return [_exporter(name) for each in exporters.split(",") if (name := each.strip()) not in {"", "none"}]


def _is_enabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _is_instrumented() -> bool:
    return "opentelemetry.instrumentation.auto_instrumentation" in sys.modules


_OTLP_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


_LAST_REPORT: Final = 1
"""Seconds the last export may take."""


def _meter(exporters: Sequence[Any], instance: str) -> tuple[Any, Any]:
    """A meter, and its provider if it is ours to shut down."""
    from opentelemetry.metrics import get_meter, set_meter_provider

    provider = None
    if exporters:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

        readers: list[MetricReader] = []
        for exporter in exporters:
            made = exporter()
            readers.append(made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made))
        resource = Resource({SERVICE_NAME: "token-service", SERVICE_INSTANCE_ID: instance})
        if not str(Resource.create().attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = Resource({SERVICE_INSTANCE_ID: instance})
        # At exit it would wait for the exporters for as long as they like.
        provider = MeterProvider(readers, Resource.create().merge(resource), shutdown_on_exit=False)
        set_meter_provider(provider)
    return get_meter("token_service"), provider


def _exporter(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="opentelemetry_metrics_exporter", name=name):
        return point.load()
    raise ConfigurationError(
        f"OTEL_METRICS_EXPORTER is {name!r}, but there is no such exporter here; install the package that has it "
        f"(`opentelemetry-exporter-{name}`), or set OTEL_METRICS_EXPORTER=none"
    )

"""What the service says about itself: log lines, the audit trail and metrics.

Log lines go to standard error, one line an event, as text or as JSON; only a traceback in text takes more
lines. Every line passes through `redact`, the last line of defence should a token ever get near a log call.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol, TextIO

from token_service.errors import ConfigurationError

AUDIT_LOGGER: Final = "token_service.audit"

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
    """Send all log lines at or above `level` to `stream`, by default standard error; what was configured before is replaced."""
    handler = logging.StreamHandler(stream or sys.stderr)
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
    """The audit trail: what happened to which session, token, client or key, by their ids. Implements the port `Audit`."""

    def __init__(self, counter: Counter | None = None) -> None:
        """`counter` counts the events by their names."""
        self._counter = counter
        self._logger = logging.getLogger(AUDIT_LOGGER)

    def record(self, event: str, **fields: object) -> None:
        """Write one event, e.g. `record("session.revoked", session_id=…)`. Give it ids, never a token, a key or a secret."""
        if self._counter is not None:
            self._counter.add(1, {"token_service.event": event})
        if self._logger.isEnabledFor(logging.INFO):
            # What `info` would do, but for finding out where it was called from.
            record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "", 0, event, (), None)
            record.fields = fields
            self._logger.handle(record)


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
    `opentelemetry-instrument`. Only then OpenTelemetry is imported: it costs more than anything else at start.
    """

    def __init__(self, environ: Mapping[str, str], instance: str) -> None:
        """`instance` tells apart the processes of a service that report to one place."""
        self._meter: Any = None
        if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        instrumented = "opentelemetry.instrumentation.auto_instrumentation" in sys.modules
        endpoint = any(environ.get(name) for name in _OTLP_ENDPOINTS)
        exporters = environ.get("OTEL_METRICS_EXPORTER", "otlp" if endpoint else "none")
        names = [name for each in exporters.split(",") if (name := each.strip()) not in {"", "none"}]
        if instrumented or names:
            self._meter = _meter([] if instrumented else names, instance)

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


_OTLP_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def _meter(exporters: Sequence[str], instance: str) -> Any:
    from opentelemetry.metrics import get_meter, set_meter_provider

    if exporters:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

        readers: list[MetricReader] = []
        for name in exporters:
            made = _exporter(name)()
            readers.append(made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made))
        resource = Resource({SERVICE_NAME: "token-service", SERVICE_INSTANCE_ID: instance})
        if not str(Resource.create().attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = Resource({SERVICE_INSTANCE_ID: instance})
        set_meter_provider(MeterProvider(readers, Resource.create().merge(resource)))
    return get_meter("token_service")


def _exporter(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="opentelemetry_metrics_exporter", name=name):
        return point.load()
    raise ConfigurationError(
        f"OTEL_METRICS_EXPORTER is {name!r}, but there is no such exporter here; install the package that has it "
        f"(`opentelemetry-exporter-{name}`), or set OTEL_METRICS_EXPORTER=none"
    )

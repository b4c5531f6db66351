"""Log lines: one line per event on standard error, as text or as JSON. Only a traceback in text adds lines.

A message and a traceback are free text, may come from a library, and are redacted separately. The module `fields`
formats each field by itself, so the redaction of one field never changes another field.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO

from token_service.telemetry import request_scope
from token_service.telemetry.fields import escape, in_json, in_text
from token_service.telemetry.redaction import redact
from token_service.telemetry.request_scope import current
from token_service.telemetry.spans import active_ids

_MAX_WRITE: Final = 4096
"""Bytes that a pipe takes in one piece even with several writers (PIPE_BUF of Linux)."""
_UNKNOWN: Final[Any] = object()
"""Marks records that are formatted in the context of their request and their span."""
_GRPC: Final = "grpc._cython.cygrpc"
_HUNG_UP: Final = "ExecuteBatchError raised in core by servicer method"


def configure_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send all log lines at or above `level` to `stream`, by default standard error.

    Replaces the handlers of the root logger.
    """
    handler = LineHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_log_level(level)
    logging.getLogger(_GRPC).addFilter(_lower_hang_ups)
    logging.raiseExceptions = False  # a full disk behind standard error must not fail a call
    # No line shows these values, so no record needs them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def set_log_level(level: str) -> None:
    """Set the lowest level of log lines."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    # Below WARNING these libraries log only their own internals.
    for name in ("asyncio", "aiosqlite", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # Its warnings are one or two lines for each malformed request, which anyone can send.
    logging.getLogger("uvicorn").setLevel(max(logging.ERROR, root.level))


def _lower_hang_ups(record: logging.LogRecord) -> bool:
    """Lower the line for a caller that hung up before its response from ERROR to DEBUG.

    gRPC reports it as an error of a handler. It reports nothing if it learned earlier that the caller hung up.
    """
    if record.levelno == logging.ERROR and str(record.msg).startswith(_HUNG_UP):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.exc_info = record.exc_text = None
    return logging.getLogger().isEnabledFor(record.levelno)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each log line at once, or the lines of a `together` block in one write."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._together = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the lines of this block at its end, in the fewest pieces that a pipe takes whole."""
        self.acquire()
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self.flush()
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and write it unless a `together` block is open."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001  # as in `logging`: no log line fails a call
            self.handleError(record)
        if not self._together:
            self.flush()

    def flush(self) -> None:
        """Write the lines formatted so far."""
        self.acquire()
        lines, self._lines = self._lines, []
        try:
            for piece in _pieces(lines):
                self.stream.write(piece)
                self.stream.flush()
        except (OSError, ValueError):  # a full disk, a closed stream
            pass
        finally:
            self.release()


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Yield pieces of whole lines, each at most `_MAX_WRITE` bytes unless a single line is longer."""
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
    """Lines for human readers: `time LEVEL logger message key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if the record has one."""
        message = escape(redact(record.getMessage()))
        line = f"{_timestamp(record)} {record.levelname:<7} {record.name} {message}"
        for name, value in {**_fields(record), **_trace(record)}.items():
            line += f" {name}={in_text(value)}"
        if traceback := self._traceback(record):
            line += "\n" + "\n".join(f"    {escape(row)}" for row in redact(traceback).splitlines())
        return line

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


class JsonFormatter(logging.Formatter):
    """Lines of one JSON object each: `time`, `level`, `logger`, `message`, in this order, then the ids of the request and
    its trace, the fields of the event and `traceback`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object."""
        line: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        scope: Any = getattr(record, "request", _UNKNOWN)
        request = request_scope.fields(current() if scope is _UNKNOWN else scope)
        for fields in ({**request, **_trace(record)}, _fields(record)):
            line.update((name, in_json(value)) for name, value in fields.items() if name not in line)
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the fields of the event."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _trace(record: logging.LogRecord) -> Mapping[str, str]:
    """Return the ids of the trace and the span in which the event happened."""
    ids = getattr(record, "span_ids", _UNKNOWN)
    if ids is _UNKNOWN:
        ids = active_ids()
    return {} if ids is None else {"trace_id": ids[0], "span_id": ids[1]}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = int(record.created)
    return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"

"""Log lines: one line an event on standard error, as text or as JSON. Only a traceback in text takes more.

A message and a traceback are free text, which may come from a library, and each is redacted by itself. Fields
are written as `fields` says and never redacted by a pattern that could reach into another one.
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

from token_service.telemetry.fields import escape, in_json, in_text
from token_service.telemetry.redaction import redact

_MAX_WRITE: Final = 4096
"""Bytes a pipe takes in one piece, whoever else writes into it (PIPE_BUF of Linux)."""
_GRPC: Final = "grpc._cython.cygrpc"
_HUNG_UP: Final = "ExecuteBatchError raised in core by servicer method"


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
    logging.getLogger(_GRPC).addFilter(_lower_hang_ups)
    logging.raiseExceptions = False  # a full disk behind standard error must not fail a call
    # What no line shows need not be found out for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _lower_hang_ups(record: logging.LogRecord) -> bool:
    """Make a debug line of what gRPC reports as an error of a handler: that a caller hung up on its answer.

    gRPC itself is silent about it where it knows already that the caller has gone.
    """
    if record.levelno == logging.ERROR and str(record.msg).startswith(_HUNG_UP):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.exc_info = record.exc_text = None
    return logging.getLogger().isEnabledFor(record.levelno)


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
        message = escape(redact(record.getMessage()))
        line = f"{_timestamp(record)} {record.levelname:<7} {record.name} {message}"
        for name, value in _fields(record).items():
            line += f" {name}={in_text(value)}"
        if traceback := self._traceback(record):
            line += "\n" + "\n".join(f"    {escape(row)}" for row in redact(traceback).splitlines())
        return line

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the event's own fields and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        line: dict[str, Any] = {
            **{name: in_json(value) for name, value in _fields(record).items()},
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = int(record.created)
    return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"

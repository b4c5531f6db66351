"""Lines that do not come from a logger, turned into log lines: a log of JSON has no other lines.

They are warnings, exceptions that nothing caught, and what libraries in C write to file descriptor 2.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import sys
import threading
from types import TracebackType
from typing import Any, Final, NamedTuple

from token_service.telemetry.lines import LineHandler

_MAX_LINE: Final = 64 * 1024
"""Bytes after which a line without an end is written."""
_LAST_LINES: Final = 1.0
"""Seconds that an ending process waits for its last lines."""
_GRPC_LINE: Final = re.compile(
    r"(?P<level>[DIWEF])\d{4} \d\d:\d\d:\d+\.\d+ +\d+ (?P<source>[\w./-]+:\d+)\] (?P<message>.*)"
).fullmatch
_LEVELS: Final = {
    "D": logging.DEBUG,
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
}

_standard_error: Final = logging.getLogger("stderr")
_grpc_core: Final = logging.getLogger("grpc.core")
_uncaught: Final = logging.getLogger("uncaught")


def log_warnings_and_uncaught_exceptions() -> None:
    """Log warnings, and exceptions that end a program or a thread, or that Python can't raise. A fork inherits this."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_exception
    threading.excepthook = _log_in_thread
    sys.unraisablehook = _log_unraisable


def capture_standard_error() -> None:
    """Log every line that this process writes to file descriptor 2, until it exits.

    Must be called before any library in C writes lines, after `configure_logging`, and not before a fork: the thread
    that reads the lines would be missing in the child.
    """
    sys.stderr.flush()
    original = os.dup(2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.setStream(open(original, "w", encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115 - lives as long as the process
    readable, writable = os.pipe()
    # A library may write while it holds the interpreter's lock, which the reader needs: it loses lines rather than wait.
    os.set_blocking(writable, False)
    os.dup2(writable, 2)
    os.close(writable)
    reader = threading.Thread(target=_read_lines, args=(readable,), name="stderr", daemon=True)
    # The thread inherits this mask: signals belong to the main thread.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    reader.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    atexit.register(_release, original, reader)


def _release(original: int, reader: threading.Thread) -> None:
    """Restore descriptor 2. This closes the last writable end of the pipe, so the reader ends after the last line."""
    sys.stderr.flush()
    os.dup2(original, 2)
    reader.join(_LAST_LINES)


def _read_lines(readable: int) -> None:
    rest = b""
    while chunk := os.read(readable, _MAX_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _log_line(line)
        if len(rest) >= _MAX_LINE:
            _log_line(rest)
            rest = b""
    _log_line(rest)


def _log_line(line: bytes) -> None:
    """Log a line of unknown origin as a warning, and a line of gRPC's core with its own level and source."""
    captured = read_line(line.decode("utf-8", "backslashreplace").strip())
    if captured is not None:
        captured.logger.log(captured.level, "%s", captured.message, extra={"fields": captured.fields})


class CapturedLine(NamedTuple):
    """A line from descriptor 2."""

    logger: logging.Logger
    level: int
    message: str
    fields: dict[str, Any]


def read_line(text: str) -> CapturedLine | None:
    """Return how to log a line; None for an empty one."""
    if not text:
        return None
    if match := _GRPC_LINE(text):
        return CapturedLine(
            _grpc_core, _LEVELS[match["level"]], match["message"], {"source": match["source"]}
        )
    return CapturedLine(_standard_error, logging.WARNING, text, {})


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _uncaught.critical("the program ends with %s", kind.__name__, exc_info=(kind, error, trace))


def _log_in_thread(failure: threading.ExceptHookArgs) -> None:
    name = "" if failure.thread is None else failure.thread.name
    error = failure.exc_value or failure.exc_type()
    _uncaught.error("the thread %s ends with %s", name, failure.exc_type.__name__, exc_info=error)


def _log_unraisable(failure: sys.UnraisableHookArgs) -> None:
    what = failure.err_msg or "Exception ignored in"
    _uncaught.error("%s %r", what, failure.object, exc_info=failure.exc_value)

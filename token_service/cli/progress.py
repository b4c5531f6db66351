"""A line on a terminal that shows how far long work is. It goes to standard error, and nowhere without a terminal."""

from __future__ import annotations

import sys
import time
from typing import Final, Self

import click

_INTERVAL: Final = 0.1
"""Seconds between two drawings."""
_WIDTH: Final = 30

quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")


class Progress:
    """The progress of one piece of work. `with` removes the line at the end."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._shown = not quiet and sys.stderr.isatty()
        self._start = time.monotonic()
        self._next = 0.0

    def show(self, done: int, total: int | None = None, remark: str = "") -> None:
        """Draw the line, at most ten times a second. `total`: None if it is unknown."""
        if not self._shown:
            return
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + _INTERVAL
        self._write(self._text(done, total, remark, now - self._start))

    def _text(self, done: int, total: int | None, remark: str, elapsed: float) -> str:
        if total is None:
            count = f"{done:,}"
        else:
            filled = _WIDTH if total == 0 else _WIDTH * min(done, total) // total
            count = f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {done:,}/{total:,}"
        return "  ".join(filter(None, (self._label, count, remark, f"{elapsed:.0f}s")))

    def __enter__(self) -> Self:
        """Return the progress."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line."""
        if self._shown and self._next:
            self._write("")

    def _write(self, text: str) -> None:
        """Replace the line."""
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

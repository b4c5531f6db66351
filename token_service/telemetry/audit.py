"""The audit trail of a process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import ExitStack
from typing import Final

from token_service.core.events.event import AuditEvent, Category
from token_service.core.events.queue import RowQueue
from token_service.telemetry.lines import LineHandler
from token_service.telemetry.metrics import Counter

AUDIT_LOGGER: Final = "token_service.audit"
_HOLD: Final = 0.02
"""Seconds that the line of a routine event may wait for further events."""
_MAX_HELD: Final = 256


class Audit:
    """The audit trail of a process: a log line for each event, and rows for events without a transaction.

    Implements the port `Audit`. An administrative or security event has its row already when its line is written,
    except a refusal, whose row is queued. Routine events have lines, or rows if the trail was created so.

    In an event loop the lines of routine events are written together, up to 20 ms later. A line written in the
    middle of a call takes three times as long, because its code and data are not in the processor's caches. Every
    other event is written at once, after the waiting events. `flush` writes the waiting events; they are lost only
    if the process is killed.
    """

    def __init__(
        self, counter: Counter | None = None, rows: RowQueue | None = None, *, routine_rows: bool = False
    ) -> None:
        """Create the trail. `counter` counts the events by name; `rows` writes the rows of refusals.

        With `routine_rows` it also writes rows of routine events, which have no line then.
        """
        self._counter = counter
        self._rows = rows
        self._routine_rows = routine_rows and rows is not None
        self._logger = logging.getLogger(AUDIT_LOGGER)
        self._held: Final[deque[tuple[float, AuditEvent]]] = deque()

    def record(self, event: AuditEvent) -> None:
        """See `Audit.record`."""
        if self._counter is not None:
            self._counter.add(1, {"token_service.event": event.action.value})
        if self._routine_rows and event.action.category is Category.ROUTINE:
            assert self._rows is not None
            self._rows.put(event)
        else:
            self._write_line(event)

    def record_alone(self, event: AuditEvent) -> None:
        """See `Audit.record_alone`."""
        self.record(event)
        if self._rows is not None:
            self._rows.put(event)

    def flush(self) -> None:
        """Write the waiting events."""
        held = self._held
        with ExitStack() as stack:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, LineHandler):
                    stack.enter_context(handler.together())
            while held:
                created, event = held.popleft()
                # As `info` does, but without the search for the calling line.
                record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "", 0, event.action.value, (), None)
                record.created, record.msecs = created, created % 1 * 1000
                record.fields = event.line()
                self._logger.handle(record)

    def _flush_soon(self) -> bool:
        """Schedule `flush` in the running event loop, and return whether a loop is running."""
        try:
            asyncio.get_running_loop().call_later(_HOLD, self.flush)
        except RuntimeError:
            return False
        return True

    def _write_line(self, event: AuditEvent) -> None:
        if not self._logger.isEnabledFor(logging.INFO):
            return
        held = self._held
        waits = event.action.category is Category.ROUTINE and (bool(held) or self._flush_soon())
        held.append((time.time(), event))
        if not waits or len(held) >= _MAX_HELD:
            self.flush()

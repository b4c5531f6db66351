"""The audit trail of a process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeAlias

from token_service.core.events.event import AuditEvent, Category
from token_service.core.events.queue import RowQueue
from token_service.telemetry.lines import LineHandler
from token_service.telemetry.request_scope import RequestScope, current
from token_service.telemetry.spans import active_ids

_Held: TypeAlias = tuple[float, AuditEvent, RequestScope | None, tuple[str, str] | None]
"""An event with its time, its request, and the ids of its trace and span."""

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
        self,
        count: Callable[[AuditEvent], None] | None = None,
        rows: RowQueue | None = None,
        *,
        routine_rows: bool = False,
    ) -> None:
        """Create the trail. `count` counts the events; `rows` writes the rows of refusals.

        With `routine_rows` it also writes rows of routine events, which have no line then.
        """
        self._count = count
        self._rows = rows
        self._routine_rows = routine_rows and rows is not None
        self._logger = logging.getLogger(AUDIT_LOGGER)
        self._held: Final[deque[_Held]] = deque()
        self.on_stored: Callable[[], None] = lambda: None
        """Called when an event that is not routine has its row."""

    def keep_routine_rows(self, keep: bool) -> None:  # noqa: FBT001 - what the method sets
        """Change whether routine events get rows, which needs `rows`."""
        self._routine_rows = keep and self._rows is not None

    def record(self, event: AuditEvent) -> None:
        """See `Audit.record`."""
        if self._count is not None:
            self._count(event)
        if self._routine_rows and event.action.category is Category.ROUTINE:
            assert self._rows is not None
            self._rows.put(event)
        else:
            self._write_line(event)
            if event.action.category is not Category.ROUTINE:
                self.on_stored()

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
                created, event, scope, span_ids = held.popleft()
                # As `info` does, but without the search for the calling line.
                record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "", 0, event.action.value, (), None)
                record.created, record.msecs = created, created % 1 * 1000
                record.fields = event.line()
                # The request and the span of the flush belong to another call.
                record.request, record.span_ids = scope, span_ids
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
        if (scope := current()) is not None:
            scope.read()  # the line may be written after the end of the request
        held.append((time.time(), event, scope, active_ids()))
        if not waits or len(held) >= _MAX_HELD:
            self.flush()

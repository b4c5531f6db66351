"""The audit trail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import ExitStack
from typing import Final

from token_service.telemetry.lines import LineHandler
from token_service.telemetry.metrics import Counter

AUDIT_LOGGER: Final = "token_service.audit"
_ROUTINE: Final = frozenset({"token.issued", "token.refreshed"})
"""Events as frequent as calls."""
_HOLD: Final = 0.02
"""Seconds that the line of a routine event may wait for further events."""
_MAX_HELD: Final = 256


class Audit:
    """The audit trail: each event with the ids of its session, token, client or key.

    Implements the port `Audit`.

    In an event loop the lines of routine events are written together, up to 20 ms later. A line written in the
    middle of a call takes three times as long, because its code and data are not in the processor's caches. Every
    other event is written at once, after the waiting events. `flush` writes the waiting events; they are lost only
    if the process is killed.
    """

    def __init__(self, counter: Counter | None = None) -> None:
        """Create the trail. `counter` counts the events by name."""
        self._counter = counter
        self._logger = logging.getLogger(AUDIT_LOGGER)
        self._held: Final[deque[tuple[float, str, dict[str, object]]]] = deque()

    def record(self, event: str, **fields: object) -> None:
        """Write one event, e.g. `record("session.revoked", session_id=…)`.

        The fields must be ids, never a token, a key or a secret.
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
        """Write the waiting events."""
        held = self._held
        with ExitStack() as stack:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, LineHandler):
                    stack.enter_context(handler.together())
            while held:
                created, event, fields = held.popleft()
                # As `info` does, but without the search for the calling line.
                record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "", 0, event, (), None)
                record.created, record.msecs = created, created % 1 * 1000
                record.fields = fields
                self._logger.handle(record)

    def _flush_soon(self) -> bool:
        """Schedule `flush` in the running event loop, and return whether a loop is running."""
        try:
            asyncio.get_running_loop().call_later(_HOLD, self.flush)
        except RuntimeError:
            return False
        return True

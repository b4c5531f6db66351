"""The port for the audit trail."""

from __future__ import annotations

from typing import Protocol

from token_service.core.events.event import AuditEvent


class Audit(Protocol):
    """The audit trail. Neither method blocks or raises."""

    def record(self, event: AuditEvent) -> None:
        """Write the log line of an event.

        An administrative or security event already has its row: the store wrote it in the transaction of the change.
        A routine event goes to the configured sink.
        """
        ...

    def record_alone(self, event: AuditEvent) -> None:
        """Write the log line of a security event that changes nothing, and queue its row."""
        ...

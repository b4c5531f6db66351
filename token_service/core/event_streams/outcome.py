"""The outcomes of attempts to give an event to its receiver."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """The attempt is repeated."""
    REFUSED = "refused"
    """The receiver calls the event invalid. It is not sent again."""
    DROPPED = "dropped"
    """The subject was erased, or the audit event deleted, before the receiver took the event."""

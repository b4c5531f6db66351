"""The port for the audit trail."""

from __future__ import annotations

from typing import Protocol


class Audit(Protocol):
    """The audit trail. Callers must never pass a token, a key or a secret."""

    def record(self, event: str, **fields: object) -> None:
        """Write one audit event. Does not block and does not raise."""
        ...

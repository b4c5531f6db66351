"""The audit trail as core writes it."""

from __future__ import annotations

from typing import Protocol


class Audit(Protocol):
    """Who did what. Never given a token, a key or a secret."""

    def record(self, event: str, **fields: object) -> None:
        """Write one audit event. Does not block and does not raise."""
        ...

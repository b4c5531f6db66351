"""What a migration declares about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One migration. Its module in `versions` declares the values."""

    revision: str
    summary: str
    """What it changes: the first line of its module."""
    compatible_since: str
    """The oldest version whose running nodes go on after it."""
    undo_loses: str | None
    """The loss when it is undone; empty: nothing that is missed. None: it can't be undone."""

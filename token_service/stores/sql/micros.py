"""Times in SQL: whole microseconds since the epoch, exact on every database and cheap to compare."""

from __future__ import annotations

from typing import overload


@overload
def to_micros(seconds: float) -> int: ...
@overload
def to_micros(seconds: None) -> None: ...
def to_micros(seconds: float | None) -> int | None:
    """Return the nearest microsecond of a NumericDate."""
    return None if seconds is None else round(seconds * 1_000_000)


@overload
def to_seconds(micros: int) -> float: ...
@overload
def to_seconds(micros: None) -> None: ...
def to_seconds(micros: int | None) -> float | None:
    """Return the NumericDate of a microsecond. `to_micros` returns the same microsecond until the year 2106."""
    return None if micros is None else micros / 1_000_000

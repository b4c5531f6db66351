"""Durations as settings and policies write them: a number and a unit."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?(ms|s|m|h|d)?")
_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration(text: str) -> float:
    """Return seconds, exact to the millisecond. Raise `ValueError`, whose message repeats nothing of `text`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a number with the unit ms, s, m, h or d")
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    milliseconds, rest = divmod(thousandths * _MILLISECONDS[match[3] or "s"], 1000)
    if rest:
        raise ValueError("not a whole number of milliseconds")
    return milliseconds / 1000


def duration_text(seconds: float) -> str:
    """Return a duration in the largest unit that gives a whole number."""
    milliseconds = round(seconds * 1000)
    for unit, size in _MILLISECONDS.items():
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return "0s"

"""The formats of numbers and times in the pages. Every time is in UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from markupsafe import Markup

NONE: Final = "—"
"""Stands for a value that there is not."""
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def count(value: float) -> str:
    """Format a number with separators of thousands."""
    return f"{value:,.0f}"


def amount(value: float | None) -> str:
    """Format a number of any size with three digits at least. None: a dash."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Format a duration with two or three digits: `85 ms`, `4.2 s`, `12 min`, `3.5 h`, `90 d`."""
    if seconds is None:
        return NONE
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in _UNITS:
        if seconds >= size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def moment(time: float | None) -> str:
    """Format a time in seconds since the Unix epoch. None: a dash."""
    if time is None:
        return NONE
    try:
        exact = datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return NONE
    return Markup('<time datetime="{}">{} UTC</time>').format(  # the format escapes its values
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M:%S")
    )


def day(time: float) -> str:
    """Format the day of a time: `2026-11-30`."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return NONE


def relative(time: float | None, now: float) -> str:
    """Format a time as its distance from now: `in 3.0 d` or `12 min ago`. The exact time is its title."""
    if time is None:
        return NONE
    try:
        exact = datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return NONE
    text = f"in {duration(time - now)}" if time > now else f"{duration(now - time)} ago"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(  # as above
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M:%S"), text
    )


def sentence(text: str) -> str:
    """Return a message of an error as a sentence: with a capital letter, unless a field comes first, and a full stop."""
    if not text.partition(" ")[0].endswith(":"):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def plural(number: float, one: str, many: str = "") -> str:
    """Format a number with its noun: `1 node`, `2 nodes`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def words(value: Enum) -> str:
    """Format a choice with spaces: `token id`."""
    return value.name.lower().replace("_", " ")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "amount": amount,
        "count": count,
        "day": day,
        "duration": duration,
        "moment": moment,
        "relative": relative,
        "plural": plural,
        "sentence": sentence,
        "words": words,
    }
)
"""The filters of the templates by name."""

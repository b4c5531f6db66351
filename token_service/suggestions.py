"""The nearest known word to one that is unknown, and values as a message may show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final

_LONGEST: Final = 80
_MOST_PROBLEMS: Final = 50


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` for the known word nearest to `word`; empty if none is near."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(word.lower()[:_LONGEST], by_lower, 1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def shown(value: Any) -> str:
    """The `repr` of a value from a document, cut to a line's length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of nested tables
        return f"<a huge {type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def listed(title: str, problems: Sequence[str]) -> str:
    """A message of several lines: the title and one problem a line, the first 50 of them."""
    lines = [title, *(f"  {problem}" for problem in problems[:_MOST_PROBLEMS])]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"  and {len(problems) - _MOST_PROBLEMS} more")
    return "\n".join(lines)

"""Parts of error messages: the known word nearest to an unknown one, shortened values, lists of problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final

_LONGEST: Final = 80
_MOST_PROBLEMS: Final = 50


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?` for the known word nearest to `word`, or an empty text if none is near."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(word.lower()[:_LONGEST], by_lower, 1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def shown(value: Any) -> str:
    """Return the `repr` of a value from a document, cut to 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of nested tables
        return f"<a huge {type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def listed(title: str, problems: Sequence[str]) -> str:
    """Return a message of several lines: the title, then one problem per line, at most 50 problems."""
    lines = [title, *(f"  {problem}" for problem in problems[:_MOST_PROBLEMS])]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"  and {len(problems) - _MOST_PROBLEMS} more")
    return "\n".join(lines)

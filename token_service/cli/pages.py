"""Lists that a service returns in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click


def first_of(
    fetch: Callable[[int, str], tuple[Sequence[Any], str]], limit: int, page_size: int = 200
) -> list[Any]:
    """Return at most `limit` items of all pages, and say on standard error if there are more.

    `fetch(size, page_token)` returns a page and the token of the next one, empty after the last one.
    """
    found: list[Any] = []
    token = ""
    while len(found) < limit:
        page, token = fetch(min(page_size, limit - len(found)), token)
        found += page
        if not token:
            return found
    if token:
        click.echo(f"There are more than {limit}; give a higher --limit to see them.", err=True)
    return found

"""Values of options: times and spans."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from token_service.durations import parse_duration


def moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Return the seconds since the Unix epoch of a time in ISO 8601, or of a span before now such as `24h`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        raise click.BadParameter(
            "is no time such as 2026-11-30T08:00:00Z or 2026-11-30, and no span such as 24h"
        ) from None


def seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of a span."""
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write for example 90s, 24h or 30d") from None

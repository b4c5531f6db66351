"""The times of forms."""

from __future__ import annotations

from datetime import UTC, datetime

from token_service.errors import InvalidRequestError
from token_service.web.oauth.parameters import Parameters


def time_of(form: Parameters, name: str) -> float | None:
    """Return the time of a field, such as `2026-11-30T18:00` in UTC. None: it is empty.

    Raises `InvalidRequestError`.
    """
    text = form.get(name)
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequestError.of(name, "is no time such as 2026-11-30T18:00 (UTC)") from None

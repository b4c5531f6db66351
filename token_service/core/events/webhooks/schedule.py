"""The times of the attempts to deliver an event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from token_service.core.entropy import Entropy

HOUR: Final = 3600.0
DAY: Final = 86400.0
MAX_DEAD_LETTERS: Final = 1000
"""Dead letters that are kept for a webhook."""
DEAD_LETTER_RETENTION: Final = 30 * DAY
DISABLE_AFTER: Final = DAY
"""Seconds of failed attempts without a success after which a webhook is disabled."""
_GROWTH: Final = 3
_JITTER: Final = 0.2
"""The part of a pause that is random, so that receivers that came back are not called at once by all webhooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """How often an event is sent, and for how long."""

    attempts: int = 8
    span: float = HOUR
    """Seconds between the first and the last attempt. Each pause is three times the one before it."""

    def pause(self, failed: int, retry_after: float, entropy: Entropy) -> float:
        """Return the seconds between a failed attempt, which was the `failed`-th, and the next one.

        `retry_after`: what the receiver asked for, of which at most the whole span counts.
        """
        parts = sum(float(_GROWTH) ** place for place in range(self.attempts - 1))
        pause = self.span / parts * float(_GROWTH) ** (failed - 1)
        shortened = pause * (1 - _JITTER * int.from_bytes(entropy(2)) / 0xFFFF)
        return max(shortened, min(retry_after, self.span))


def retry_after_seconds(header: str, now: float) -> float:
    """Return the seconds of a `Retry-After` header (RFC 9110, section 10.2.3); 0 if it is missing or unusable."""
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)

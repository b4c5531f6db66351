"""The pace at which clients poll for the tokens of devices (RFC 8628, section 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from token_service.core.grants.device_codes import POLL_INTERVAL
from token_service.errors import SlowDownError

SLOW_DOWN_BY: Final = 5.0
"""Seconds by which the interval grows with each poll that comes too early."""
MAX_INTERVAL: Final = 60.0
MAX_PACES: Final = 20_000
"""Remembered device codes of a process. One takes about 200 bytes."""
_LEEWAY: Final = 1.0
"""Seconds that a poll may be early, because the network delays one poll more than the next."""


class Paces:
    """The pace at which the clients of one process poll, so that a poll that comes too early costs no I/O.

    Each process knows its own polls only: a client whose polls reach n processes can poll n times as often.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._paces: dict[bytes, tuple[float, float]] = {}
        """By device code: the time of the next poll, and the interval. The code that was polled last comes last."""

    def __len__(self) -> int:
        return len(self._paces)

    def poll(self, digest: bytes) -> None:
        """Count a poll. Raises `SlowDownError` for one that comes too early, which makes the interval longer."""
        now = self._monotonic()
        due, interval = self._paces.pop(digest, (now, POLL_INTERVAL))
        too_early = now < due - _LEEWAY
        if too_early:
            interval = min(interval + SLOW_DOWN_BY, MAX_INTERVAL)
        elif len(self._paces) >= MAX_PACES:
            del self._paces[next(iter(self._paces))]
        self._paces[digest] = (now + interval, interval)
        if too_early:
            raise SlowDownError(
                f"poll every {interval:.0f} seconds from now on",
                metadata={"interval": f"{interval:.0f}"},
                retry_after=interval,
            )

    def forget(self, digest: bytes) -> None:
        """Forget a device code that is not polled any more."""
        self._paces.pop(digest, None)

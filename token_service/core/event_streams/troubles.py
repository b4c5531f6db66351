"""The failures of streams: when the next attempt is due, and what the log has already said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from token_service.clock import Clock
from token_service.core.event_streams.stream import EventStream

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 300.0


def delay_after(attempts: int) -> float:
    """Return the seconds between the failed attempt number `attempts` and the next one."""
    return float(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(attempts - 1, 20)))


@dataclass(slots=True)
class Trouble:
    """The failures of a stream since its last success."""

    revision: int
    attempts: int = 0
    due: float = 0.0
    problem: str = ""
    """The defect that was logged last; empty: none was."""


class Troubles:
    """The streams whose last attempt failed. A stream that was changed is tried at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[str, Trouble] = {}

    def is_due(self, stream: EventStream) -> bool:
        """Tell whether the stream may be tried now."""
        trouble = self._troubles.get(stream.stream_id)
        return (
            trouble is None or trouble.revision != stream.revision or trouble.due <= self._clock.monotonic()
        )

    def failed(self, stream: EventStream) -> Trouble:
        """Note a failed attempt and put the next one off."""
        trouble = self._troubles.get(stream.stream_id)
        if trouble is None or trouble.revision != stream.revision:
            trouble = self._troubles[stream.stream_id] = Trouble(stream.revision)
        trouble.attempts += 1
        trouble.due = self._clock.monotonic() + delay_after(trouble.attempts)
        return trouble

    def succeeded(self, stream: EventStream) -> bool:
        """Forget the failures of a stream; return whether there were any."""
        return self._troubles.pop(stream.stream_id, None) is not None

    def keep_only(self, stream_ids: set[str]) -> None:
        """Forget the failures of streams that were deleted."""
        for each in set(self._troubles) - stream_ids:
            del self._troubles[each]

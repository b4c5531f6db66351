"""The time line of the signing keys: what each key was and will be at which time, as places on a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT
from token_service.core.keys.store import SigningKeyState
from token_service.core.reports.cluster.overview import KeyEntry

WIDTH: Final = 960.0
"""The width of the picture, in its own units."""
MAX_KEYS_SHOWN: Final = 32
"""Keys in the picture, which shows the ones of the overview first. The table has all of them."""
_LONGEST: Final = 400 * 86_400.0
"""Seconds from now that the picture shows at most, to each side."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A time in which a key was in one state. `x` and `width` are places on the picture."""

    state: str
    x: float
    width: float
    start_time: float
    end_time: float
    """The planned end if it is later than now."""


@dataclass(frozen=True, slots=True)
class Line:
    """A key with its bars, in the order of time."""

    entry: KeyEntry
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class TimeLine:
    """The picture."""

    lines: Sequence[Line]
    now: float
    """The place of the present time."""
    ticks: Sequence[tuple[float, float]]
    """Places with their times."""


@dataclass(frozen=True, slots=True)
class _Span:
    state: str
    start: float
    end: float


def time_line(entries: Sequence[KeyEntry], now: float) -> TimeLine:
    """Draw the keys on one scale, from the first of them to the last planned change."""
    shown = [(entry, list(_spans(entry, now))) for entry in entries[:MAX_KEYS_SHOWN]]
    spans = [span for _, found in shown for span in found]
    start = max(min((span.start for span in spans), default=now), now - _LONGEST)
    end = min(max((span.end for span in spans), default=now), now + _LONGEST)
    length = max(end - start, 3600.0)

    def place(time: float) -> float:
        return round(WIDTH * min(max((time - start) / length, 0.0), 1.0), 2)

    return TimeLine(
        [
            Line(
                entry,
                [
                    Bar(
                        span.state,
                        place(span.start),
                        max(place(span.end) - place(span.start), 2.0),
                        span.start,
                        span.end,
                    )
                    for span in found
                ],
            )
            for entry, found in shown
        ],
        place(now),
        [(place(time), time) for time in (start + length * step / 4 for step in range(5))],
    )


def _spans(entry: KeyEntry, now: float) -> Iterator[_Span]:
    """Return the states of a key: announced, active, retired. A revoked key ends at its revocation."""
    key, planned = entry.key, entry.next_change_time
    last = key.revoke_time
    ahead = max(now, planned or now)
    if key.activate_time is None:
        yield _Span("prepared", key.create_time, last or ahead)
        return
    if key.activate_time > key.create_time:
        yield _Span("prepared", key.create_time, key.activate_time)
    signed_until = key.retire_time or last or ahead
    yield _Span("active", key.activate_time, max(signed_until, key.activate_time))
    if key.retire_time is not None:
        gone = last or (planned if key.state is SigningKeyState.RETIRED else None)
        yield _Span("retired", key.retire_time, gone or key.retire_time + PUBLISHED_AFTER_RETIREMENT)

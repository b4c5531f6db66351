"""Readiness that the workers of a service share, in memory that the supervisor maps before it forks them.

Any worker may answer a probe of the whole service, because the workers share the port. So each worker notes when it
was last ready, and each reads the notes of all. A worker that has ended, hangs or is not ready stops noting.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Mapping
from typing import Final

INTERVAL: Final = 0.5
"""Seconds between two notes of a worker."""
PATIENCE: Final = 10.0
"""Seconds without a note after which a worker counts as not ready. The replacement of a worker takes less."""


class WorkerReadiness:
    """The times at which the workers were last ready. Every process that is forked from the creator shares them."""

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Map the memory. `clock` must have the same zero in all processes of the machine."""
        self._times = memoryview(mmap.mmap(-1, 8 * workers)).cast("d")
        self._clock = clock

    def note(self, number: int) -> None:
        """Note that a worker is ready now."""
        self._times[number] = self._clock()

    @property
    def all_started(self) -> bool:
        """Whether each worker has been ready at least once. A replaced worker counts."""
        return all(self._times)

    def checks(self) -> Mapping[str, str | None]:
        """Return the problem of each worker, by its name; None if it was ready within `PATIENCE`."""
        now = self._clock()
        return {f"worker-{number}": _problem(number, last, now) for number, last in enumerate(self._times)}


def _problem(number: int, last: float, now: float) -> str | None:
    if not last:
        return f"worker {number} has not been ready yet"
    if now - last <= PATIENCE:
        return None
    return f"worker {number} has not been ready for {now - last:.0f} s"

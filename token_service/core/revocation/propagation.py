"""Measures how long revocations take to reach all subscribers of this node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.revocation.replica import Replica
from token_service.core.subscribers.node_details import Reached
from token_service.core.subscribers.registry import Subscribers
from token_service.tokens.revocation import Revocation

MAX_MEASURED: Final = 16
"""Measurements that a node keeps and reports."""
_MAX_PENDING: Final = 4096


class Propagation:
    """Measures the time from a revocation to the last confirmation of this node's subscribers, without the silent ones.

    A listener of the replica. Revocations without subscribers are not measured, nor is more than a bounded number of them
    at a time.
    """

    def __init__(self, replica: Replica, subscribers: Subscribers, clock: Clock) -> None:
        self._replica = replica
        self._subscribers = subscribers
        self._clock = clock
        self._epoch = replica.epoch
        self._pending: deque[tuple[int, float]] = deque(maxlen=_MAX_PENDING)
        self._measured: deque[Reached] = deque(maxlen=MAX_MEASURED)
        self._listeners: list[Callable[[float], None]] = []
        replica.listen(self)
        subscribers.on_progress(self._progressed)

    @property
    def measured(self) -> tuple[Reached, ...]:
        """The last measurements, the latest last."""
        return tuple(self._measured)

    @property
    def behind_for(self) -> float:
        """Seconds since the oldest revocation that not all subscribers have confirmed; 0: they have confirmed all."""
        return max(0.0, self._clock.now() - self._pending[0][1]) if self._pending else 0.0

    def on_measured(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with each measured time in seconds."""
        self._listeners.append(listener)

    def applied(self, entries: Sequence[Revocation]) -> None:
        """Begin to measure entries that the replica has applied."""
        if self._subscribers.lowest != inf:
            self._pending.extend((entry.sequence, entry.revoke_time) for entry in entries)

    def was_reset(self) -> None:
        """Forget entries of another log."""
        self._pending.clear()
        if self._replica.epoch != self._epoch:
            self._epoch = self._replica.epoch
            self._measured.clear()

    def _progressed(self) -> None:
        if not self._pending:
            return
        lowest = self._subscribers.lowest
        if lowest == inf:  # the last subscriber has gone
            self._pending.clear()
            return
        now = self._clock.now()
        while self._pending and self._pending[0][0] <= lowest:
            sequence, revoke_time = self._pending.popleft()
            seconds = round(max(0.0, now - revoke_time), 3)
            self._measured.append(Reached(sequence, revoke_time, seconds))
            for listener in self._listeners:
                listener(seconds)

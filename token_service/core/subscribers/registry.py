"""The subscribers connected to this node: their confirmations, and the silent ones."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final, NamedTuple

from token_service.clock import Clock
from token_service.core.limits import MAX_WAIT

_MAX_FOREIGN: Final = 4096
MAX_FOREIGN_PER_CALLER: Final = 1024
"""Confirmations kept for one caller from subscribers that are connected to other nodes."""
SILENT_AFTER: Final = 10.0
"""Seconds after which waits ignore a subscriber that was asked to confirm and has not done so."""
_ASKED_STEP: Final = 0.5
"""Requests within this many seconds count as one, made at the time of the first."""
_FOREIGN_AGE: Final = 10.0


class Member(NamedTuple):
    """A connected subscriber. Times are by the monotonic clock."""

    subscriber: str
    """The registered name."""
    name: str
    """The name that the subscriber gave."""
    caller: str
    """The name of its caller."""
    sequence: int
    key_revision: int
    connected_at: float
    confirmed_at: float | None
    is_silent: bool


class Subscribers:
    """The subscribers of this node. Belongs to one event loop, and does no I/O."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.epoch = ""
        """The log that all sequences here belong to."""
        self._streams: Counter[str] = Counter()
        self._applied: dict[str, int] = {}
        self._levels: Counter[int] = Counter()
        """The number of subscribers, without the silent ones, at each confirmed sequence."""
        self._connected_at: dict[str, float] = {}
        self._confirmed_at: dict[str, float] = {}
        """The time of the last confirmation of each connected subscriber that has confirmed."""
        self._named: dict[str, tuple[str, str]] = {}
        """The name that each connected subscriber gave, and the name of its caller."""
        self._silent: set[str] = set()
        """Connected subscribers that have owed a confirmation for too long. They count at no level."""
        self._asked: deque[tuple[float, int]] = deque()
        """The requests as (time, sequence), the latest last."""
        self._overdue = 0
        """The highest sequence requested more than `SILENT_AFTER` ago."""
        self._key_revisions: dict[str, int] = {}
        self._foreign: dict[str, tuple[int, float, str]] = {}
        self._foreign_of: Counter[str] = Counter()
        self.changed = True
        """Whether the state has changed since the last report to other nodes."""
        self.hurry = asyncio.Event()
        """Set when a confirmation arrives that a wait may need."""
        self.requested = 0
        """The highest sequence whose confirmation a wait at any node needs."""
        self._requested_at = -inf
        self.announced = 0
        """The highest requested sequence that the head of the log names."""
        self._on_request: list[Callable[[], None]] = []
        self._on_progress: list[Callable[[], None]] = []

    def on_request(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `requested` has grown."""
        self._on_request.append(listener)

    def on_progress(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a subscriber connects, disconnects, confirms or is found silent."""
        self._on_progress.append(listener)

    # --- Events of subscribers --------------------------------------------------------------------------------------

    def connect(self, subscriber_id: str, name: str = "", caller: str = "") -> None:
        """Count a stream that a subscriber has opened at this node.

        `name` is the name that the subscriber gave, and `caller` the name of its caller. Both are only shown.
        """
        self._streams[subscriber_id] += 1
        self._named[subscriber_id] = (name or subscriber_id, caller)
        if subscriber_id not in self._applied:
            self._put(subscriber_id, 0)
            self._connected_at[subscriber_id] = self._clock.monotonic()
        self._key_revisions.setdefault(subscriber_id, 0)
        self._moved()

    def disconnect(self, subscriber_id: str) -> None:
        """Stop counting a stream that has ended."""
        self._streams[subscriber_id] -= 1
        if self._streams[subscriber_id] <= 0:
            del self._streams[subscriber_id]
            self._put(subscriber_id, None)
            self._silent.discard(subscriber_id)
            del self._connected_at[subscriber_id]
            del self._named[subscriber_id]
            self._confirmed_at.pop(subscriber_id, None)
            self._key_revisions.pop(subscriber_id, None)
        self._moved()

    def confirm(self, subscriber_id: str, sequence: int, key_revision: int = 0, *, caller: str = "") -> None:
        """Note that a subscriber has applied everything up to `sequence`, and uses the keys of `key_revision`.

        `caller` is the identity of the caller that sent the confirmation. Confirmations of subscribers that are not
        connected here are kept up to a limit for each caller. Further ones are ignored, so that invented names of one
        caller can't displace the subscribers of another.
        """
        if key_revision > self._key_revisions.get(subscriber_id, key_revision):
            self._key_revisions[subscriber_id] = key_revision
            self.changed = True
        if subscriber_id in self._applied:
            self.advance(subscriber_id, sequence)
        elif subscriber_id in self._foreign or self._may_keep_foreign(caller):
            # The stream of this subscriber is on another node, which reads the confirmation from this node's report.
            self._keep_foreign(subscriber_id, sequence, caller)
            self.changed = True
            if self.requested and sequence >= self.requested:
                self.hurry.set()

    def advance(self, subscriber_id: str, sequence: int) -> None:
        """Raise the confirmed sequence of a subscriber that is connected here. A lower sequence changes nothing."""
        known = self._applied.get(subscriber_id)
        if known is None:
            return
        self._confirmed_at[subscriber_id] = self._clock.monotonic()
        if known < sequence:
            self._put(subscriber_id, sequence)
            if known < self.requested <= sequence:
                self.hurry.set()
            self._moved()

    def start_over(self, epoch: str) -> None:
        """Forget all sequences and key revisions, because those of one log have no meaning in another."""
        self.epoch = epoch
        self._applied = dict.fromkeys(self._applied, 0)
        self._confirmed_at.clear()
        self._levels = Counter({0: len(self._applied)} if self._applied else {})
        self._key_revisions = dict.fromkeys(self._key_revisions, 0)
        self._foreign.clear()
        self._foreign_of.clear()
        self._silent.clear()
        self._asked.clear()
        self._overdue = 0
        self.requested = self.announced = 0
        self._moved()

    # --- Requests for confirmations ---------------------------------------------------------------------------------

    def request(self, sequence: int) -> None:
        """Ask all subscribers to confirm `sequence`."""
        if sequence > self.requested:
            now = self._clock.monotonic()
            self.requested = sequence
            self._requested_at = now
            if self._asked and now - self._asked[-1][0] < _ASKED_STEP:
                self._asked[-1] = self._asked[-1][0], sequence
            else:
                self._asked.append((now, sequence))
            for listener in self._on_request:
                listener()

    def heard(self, sequence: int) -> None:
        """Ask for a `sequence` that the head of the log names because a call at some node waits for it."""
        self.announced = max(self.announced, sequence)
        self.request(sequence)

    def find_silent(self) -> None:
        """Exclude subscribers that have owed a confirmation for too long from waits until they confirm."""
        now = self._clock.monotonic()
        while self._asked and now - self._asked[0][0] >= SILENT_AFTER:
            self._overdue = self._asked.popleft()[1]
        if self.lowest >= self._overdue:
            return
        silent = [
            name
            for name, at in self._applied.items()
            if at < self._overdue
            and now - self._connected_at[name] >= SILENT_AFTER
            and name not in self._silent
        ]
        for name in silent:
            self._leave_level(self._applied[name])
            self._silent.add(name)
        if silent:
            self._moved()

    # --- State of the subscribers -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of connected subscribers, with the silent ones."""
        return len(self._applied)

    @property
    def applied(self) -> Mapping[str, int]:
        """The confirmed sequence of each connected subscriber, silent ones included."""
        return self._applied

    @property
    def silent(self) -> int:
        """The number of connected subscribers that are silent."""
        return len(self._silent)

    def members(self) -> Iterator[Member]:
        """Yield the connected subscribers."""
        for subscriber, sequence in self._applied.items():
            name, caller = self._named[subscriber]
            yield Member(
                subscriber,
                name,
                caller,
                sequence,
                self._key_revisions.get(subscriber, 0),
                self._connected_at[subscriber],
                self._confirmed_at.get(subscriber),
                subscriber in self._silent,
            )

    @property
    def levels(self) -> Mapping[int, int]:
        """The number of subscribers, without the silent ones, at each confirmed sequence."""
        return self._levels

    @property
    def lowest(self) -> float:
        """The sequence that all subscribers but the silent ones have confirmed; infinity without such subscribers."""
        return min(self._levels, default=inf)

    @property
    def key_revisions(self) -> list[int]:
        """The revision of the key set that each subscriber has confirmed."""
        return list(self._key_revisions.values())

    def behind_keys(self, key_revision: int) -> list[str]:
        """Return the subscribers that have not confirmed a revision of the key set, by name."""
        return sorted(name for name, known in self._key_revisions.items() if known < key_revision)

    @property
    def key_revision(self) -> int:
        """The lowest revision of the key set that any subscriber has confirmed; 0 without subscribers."""
        return min(self._key_revisions.values(), default=0)

    @property
    def owe_confirmations(self) -> bool:
        """Whether a wait may still need a confirmation of these subscribers. Another node may have received it."""
        return self.lowest < self.requested and self._clock.monotonic() - self._requested_at < MAX_WAIT

    def counts(self, sequence: int) -> tuple[int, int]:
        """Count the connected subscribers without the silent ones, and how many of these applied `sequence`."""
        applied = sum(count for at, count in self._levels.items() if at >= sequence)
        return len(self._applied) - len(self._silent), applied

    def foreign(self) -> list[tuple[str, int]]:
        """Return the recent confirmations of subscribers that are not connected here. Forgets older ones."""
        now = self._clock.monotonic()
        self._foreign = {name: at for name, at in self._foreign.items() if now - at[1] < _FOREIGN_AGE}
        self._foreign_of = Counter(caller for _, _, caller in self._foreign.values())
        return [(name, at[0]) for name, at in self._foreign.items()]

    # --- Bookkeeping ------------------------------------------------------------------------------------------------

    def _may_keep_foreign(self, caller: str) -> bool:
        return len(self._foreign) < _MAX_FOREIGN and (
            not caller or self._foreign_of[caller] < MAX_FOREIGN_PER_CALLER
        )

    def _keep_foreign(self, name: str, sequence: int, caller: str) -> None:
        if name not in self._foreign:
            self._foreign_of[caller] += 1
        self._foreign[name] = (sequence, self._clock.monotonic(), caller)

    def _put(self, name: str, sequence: int | None) -> None:
        """Set the confirmed sequence of a subscriber; None removes the subscriber.

        A silent subscriber counts at no level until it has confirmed the overdue sequence.
        """
        known = self._applied.pop(name, None)
        if sequence is not None and sequence >= self._overdue and name in self._silent:
            self._silent.discard(name)
        elif known is not None and name not in self._silent:
            self._leave_level(known)
        if sequence is not None:
            self._applied[name] = sequence
            if name not in self._silent:
                self._levels[sequence] += 1

    def _leave_level(self, sequence: int) -> None:
        self._levels[sequence] -= 1
        if not self._levels[sequence]:
            del self._levels[sequence]

    def _moved(self) -> None:
        self.changed = True
        for listener in self._on_progress:
            listener()

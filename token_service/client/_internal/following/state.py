"""What a validator knows of the revocations, and since when that is proven. No I/O.

Invariants:
- `feed.revocations` holds every entry up to `cursor`, and nothing that was once in it is lost while a token
  it hits is valid. A snapshot is built aside and takes its place in one assignment, never with less than was
  there: one from a node that is behind waits until it has caught up.
- `feed` is fresh only for S seconds from the *start* of a probe whose answer, the head of the log, has been
  applied. An answer that lay in a buffer while the process was stopped proves as much as it did when it was
  sent.
- the wall clock may jump. Entries expire by a clock that does not; freshness ends where the two disagree,
  until a new snapshot.
- keys never become fewer than one, nor older than they were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from token_service.client._internal.clock import ValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.messages import block_of, jwks_of, revocation_of
from token_service.tokens.revocation import Cursor
from token_service.tokens.revocation_set import Block, RevocationSet
from token_service.v1 import key_service_pb2, token_service_pb2

_MAX_CLOCK_STEP: Final = 60.0
"""Seconds wall clock and elapsed time may drift apart, and how much longer than necessary entries are kept
for that.
"""
_CHUNK: Final = 4096 * 8
_MAX_PENDING: Final = 8

TakeKeys: TypeAlias = Callable[[list[dict[str, str]], int], bool]
"""`take(jwks, revision)`: use these keys; False if there is no usable one among them."""


class StreamProtocolError(Exception):
    """The stream said something that must not be taken for granted; what is known stays as it is."""


class Feed:
    """What validations read: three times and one pointer, each replaced in one assignment."""

    __slots__ = ("fresh_from", "fresh_to", "fresh_until", "proven_at", "revocations")

    def __init__(self) -> None:
        self.revocations = RevocationSet()
        self.fresh_until = float("-inf")
        """Elapsed time until which `revocations` is proven complete enough."""
        self.fresh_from = float("inf")
        self.fresh_to = float("-inf")
        """The same by the wall clock, which the machine may set; both must agree."""
        self.proven_at = float("-inf")
        """Elapsed time at which the last proof began."""

    def is_fresh(self, now: float, elapsed: float) -> bool:
        """Tell whether the known revocations are proven to be at most S seconds old.

        Used for setup, status and explanations. Validations compare the same bounds in `local`, inline for speed:
        change both.
        """
        return elapsed < self.fresh_until and self.fresh_from <= now < self.fresh_to


class AlwaysFresh(Feed):
    """What validations read of an issuer whose revocations nobody reports."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.fresh_until = self.fresh_to = float("inf")
        self.fresh_from = float("-inf")


@dataclass(frozen=True, slots=True)
class Probe:
    """A freshness probe under way: when it began, by both clocks, and what was known then."""

    elapsed: float
    now: float
    cursor: Cursor | None


class FollowerState:
    """The validator's copy of the revocations and the proofs of its freshness, as a state machine.

    One thread or task drives it; any thread reads `feed`.
    """

    def __init__(
        self, issuer: str, bound: float, clock: ValidatorClock, take_keys: TakeKeys, counters: Counters
    ) -> None:
        self.feed = Feed()
        self.cursor: Cursor | None = None
        """Everything up to here is in `feed.revocations`."""
        self.key_revision = -1
        self.jwks: list[dict[str, str]] = []
        """The key set in use, with its revision."""
        self.issuer_seen: str | None = None
        """The issuer of the last key set that came, whether it was used or not."""
        self._issuer = issuer
        self._bound = bound
        self._now, self._elapsed = clock.now, clock.elapsed
        self._take_keys = take_keys
        self._counters = counters
        self._offset: float | None = None  # wall clock minus elapsed time, when the set was begun
        self._building: _Building | None = None
        self._pending: deque[tuple[Probe, Cursor]] = deque(maxlen=_MAX_PENDING)
        self._behind_since: float | None = None
        self._probed_at = float("-inf")
        self._start_over = False
        self._rewound = False

    # --- the stream ---

    def connect(self) -> str:
        """A stream begins: the cursor to give to it, empty for a snapshot."""
        self._building = None
        self._behind_since = None
        return str(self.cursor) if self.cursor is not None and not self._start_over else ""

    def open(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """First step of taking in a message: does it begin a snapshot?"""
        if message.reset:
            self._building = _Building(self._now() - self._elapsed())
        elif self._building is None and (self.cursor is None or self._start_over):
            raise StreamProtocolError("the stream did not begin with a snapshot")
        if message.snapshot_blocks and self._building is None:
            raise StreamProtocolError("a part of a snapshot without its beginning")

    def load(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Second step: packed ids. Touches nothing but the set built aside, so another thread may do it."""
        if self._building is None:
            return
        try:
            for part in message.snapshot_blocks:
                block = block_of(part)
                # In pieces: one call holds the interpreter for all of a piece.
                for at in range(0, len(block.fingerprints), _CHUNK):
                    piece = block.fingerprints[at : at + _CHUNK]
                    self._building.revocations.load(
                        Block(block.target, block.bucket, piece, block.expire_time)
                    )
        except ValueError as error:
            raise StreamProtocolError(str(error)) from None

    def apply(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Third step: entries, keys, cursor."""
        try:
            entries = [revocation_of(entry) for entry in message.revocations]
            cursor = Cursor.parse(message.cursor) if message.cursor else None
        except ValueError as error:
            raise StreamProtocolError(str(error)) from None
        building = self._building
        known = building.cursor if building is not None else self.cursor
        if known is not None:
            self._require_continuation(known, [entry.sequence for entry in entries], cursor)
        revocations = building.revocations if building is not None else self.feed.revocations
        for entry in entries:
            revocations.apply(entry)
        if building is None:
            self._counters.revocations += len(entries)
            self.cursor = cursor or self.cursor
        else:
            building.cursor = cursor or building.cursor
        if message.HasField("key_set"):
            self._take(message.key_set, building)
        if building is not None and building.cursor is not None:
            self._replace_by(building, building.cursor)
        if entries or message.snapshot_blocks:
            self._behind_since = None  # it gets on, if slowly; a new stream would be no faster
        self._settle()

    def receive(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """All three steps. Raises `StreamProtocolError`; the stream must be given up then."""
        self.open(message)
        self.load(message)
        self.apply(message)

    def distrust(self) -> None:
        """What came last was no continuation: begin the next stream with a snapshot."""
        self._building = None
        self._start_over = True

    # --- freshness ---

    def begin_probe(self) -> Probe:
        """Call this before the probe is sent."""
        elapsed, now = self._elapsed(), self._now()
        if self._offset is not None and abs(now - elapsed - self._offset) > _MAX_CLOCK_STEP:
            # The wall clock was set. By the old one too much may have been forgotten, so nothing is fresh
            # until the service has sent everything again.
            self._start_over = True
        self._probed_at = elapsed
        return Probe(elapsed, now, self.cursor)

    def answer(self, probe: Probe, head: str) -> None:
        """The head of the log, as answered to a probe. Raises `StreamProtocolError` for something else."""
        try:
            cursor = Cursor.parse(head)
        except ValueError as error:
            raise StreamProtocolError(str(error)) from None
        known = probe.cursor
        if known is not None and known.epoch == cursor.epoch and known.sequence > cursor.sequence:
            # The log ends before what was read from it: it was put back to an earlier state. Its sequences
            # will come again for other entries, so nothing proves anything until everything was sent again.
            self._rewound = self._start_over = True
            self._end_freshness()
            return
        self._pending.append((probe, cursor))
        self._settle()

    def may_probe(self) -> bool:
        """Whether the last probe began long enough ago for another one out of turn."""
        return self._elapsed() - self._probed_at > self._bound / 10

    def needs_new_stream(self, stall_timeout: float) -> bool:
        """Whether the current stream should be given up: everything is needed anew, or it stays behind a head
        known from a probe and brings nothing.
        """
        building = self._building
        # A snapshot that waits to catch up with what is known here would wait for what that log has lost.
        if self._start_over and (building is None or (self._rewound and building.cursor is not None)):
            return True
        return self._behind_since is not None and self._elapsed() - self._behind_since > stall_timeout

    def sweep(self) -> None:
        """Forget what has expired, by the clock that does not jump. Call this every few seconds."""
        if self._offset is not None:
            # Twice: the wall clock may have gone back by that much before the last probe, and again since.
            self.feed.revocations.drop_expired(self._elapsed() + self._offset - 2 * _MAX_CLOCK_STEP)

    # --- keys and warm start ---

    def take_key_set(self, key_set: key_service_pb2.KeySet) -> bool:
        """Use a key set that was asked for, if it is newer than the current one.

        Whether the keys are as new as it now.
        """
        self.issuer_seen = key_set.issuer
        if key_set.issuer != self._issuer or key_set.revision < self.key_revision:
            self._counters.key_sets_refused += 1
            return False
        if key_set.revision == self.key_revision:
            return True
        return self.restore_keys(jwks_of(key_set), key_set.revision)

    def restore_keys(self, jwks: list[dict[str, str]], revision: int) -> bool:
        """Use these keys; False, and nothing changes, if there is no usable one among them."""
        if not self._take_keys(jwks, revision):
            self._counters.key_sets_refused += 1
            return False
        self.key_revision = revision
        self.jwks = jwks
        self._counters.key_sets += 1
        return True

    def restore(self, revocations: RevocationSet, cursor: Cursor, proven_at: float) -> None:
        """Begin with a saved set: not fresh, but resumable. `proven_at`: elapsed time of its last proof."""
        self.feed.revocations = revocations
        self.feed.proven_at = proven_at
        self.cursor = cursor
        self._offset = self._now() - self._elapsed()

    # --- inner steps ---

    def _require_continuation(self, known: Cursor, sequences: list[int], cursor: Cursor | None) -> None:
        expected = known.sequence + 1
        for sequence in sequences:
            if sequence > expected:
                raise StreamProtocolError(f"entries {expected} to {sequence - 1} are missing")
            if sequence == expected:
                expected += 1
        if cursor is None:
            if sequences:
                raise StreamProtocolError("entries without a cursor")
        elif cursor.epoch != known.epoch or cursor.sequence != expected - 1:
            raise StreamProtocolError("the cursor does not fit the entries")

    def _take(self, key_set: key_service_pb2.KeySet, building: _Building | None) -> None:
        if building is not None and self.key_revision >= 0:
            building.key_set = key_set  # of another log perhaps, where revisions began again
        else:
            self.take_key_set(key_set)

    def _replace_by(self, building: _Building, cursor: Cursor) -> None:
        same_log = self.cursor is not None and self.cursor.epoch == cursor.epoch
        if (
            same_log
            and self.cursor is not None
            and cursor.sequence < self.cursor.sequence
            and not self._rewound
        ):
            return  # that node is behind: go on building until nothing known here is missing there
        if not same_log or self._start_over:
            self._pending.clear()
            self._end_freshness()
        if not same_log or self._rewound:
            self.feed.proven_at = float("-inf")  # before the set: the proof was not of what is in the new one
        if building.key_set is not None:
            if self.cursor is not None and (not same_log or self._rewound):
                self.key_revision = -1  # revisions began again, or go on from an earlier one
            self.take_key_set(building.key_set)
        self.feed.revocations = building.revocations
        self.cursor = cursor
        self._offset = building.offset
        self._building = None
        self._start_over = self._rewound = False
        self._behind_since = None
        self._counters.resets += 1

    def _end_freshness(self) -> None:
        feed = self.feed
        feed.fresh_until = feed.fresh_to = float("-inf")

    def _settle(self) -> None:
        """Turn answered probes whose head is applied into freshness."""
        cursor = self.cursor
        behind = False
        for probe, head in tuple(self._pending):
            if cursor is None or head.epoch != cursor.epoch or head.sequence > cursor.sequence:
                behind = True
                continue
            self._pending.remove((probe, head))
            self._prove(probe)
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._elapsed()

    def _prove(self, probe: Probe) -> None:
        feed = self.feed
        if self._start_over or self._offset is None or probe.elapsed < feed.proven_at:
            return
        if abs(probe.now - probe.elapsed - self._offset) > _MAX_CLOCK_STEP:
            return
        feed.proven_at = probe.elapsed
        # The later bounds first: a reader between two assignments sees a time too short, never one too long.
        feed.fresh_from = probe.now - _MAX_CLOCK_STEP
        feed.fresh_to = probe.now + self._bound
        feed.fresh_until = probe.elapsed + self._bound


class _Building:
    """A snapshot being received."""

    __slots__ = ("cursor", "key_set", "offset", "revocations")

    def __init__(self, offset: float) -> None:
        self.revocations = RevocationSet()
        self.cursor: Cursor | None = None
        self.key_set: key_service_pb2.KeySet | None = None
        self.offset = offset

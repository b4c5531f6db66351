"""The validator's replica of the revocations, and the proofs of its freshness. No I/O.

Invariants:
- `feed.revocations` contains every entry up to `cursor`, and loses no entry while a token that it revokes is valid.
  A snapshot is built separately and replaces the set in one assignment. It never lacks an entry of the replaced
  set: a snapshot from a node that is behind waits until it has caught up.
- `feed` is fresh only for S seconds from the *start* of a probe whose response, the head of the log, has been
  applied. A response that waited in a buffer while the process was stopped gives no longer freshness.
- The wall clock may jump. Entries expire by a clock that does not jump. If the two clocks disagree, freshness ends
  until the next snapshot.
- The key set never becomes empty, and never returns to an older revision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Final, TypeAlias

from token_service.client._internal.clock import ValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.messages import block_of, jwks_of, revocation_of
from token_service.client._internal.following.report import ValidationReport
from token_service.tokens.revocation import Cursor
from token_service.tokens.revocation_set import Block, RevocationSet
from token_service.v1 import key_service_pb2, token_service_pb2

_MAX_CLOCK_STEP: Final = 60.0
"""Seconds by which wall clock and elapsed time may drift apart. Entries are kept this much longer than necessary."""
_CHUNK: Final = 4096 * 8
_MAX_PENDING: Final = 8

TakeKeys: TypeAlias = Callable[[list[dict[str, str]], int], bool]
"""`take(jwks, revision)` uses these keys. It returns False if none of them is usable."""


class StreamProtocolError(Exception):
    """A message that breaks the protocol of the stream. The replica stays unchanged."""


class Feed:
    """The state that validations read: a set of revocations and four times, each replaced in one assignment."""

    __slots__ = ("fresh_from", "fresh_to", "fresh_until", "proven_at", "revocations")

    def __init__(self) -> None:
        self.revocations = RevocationSet()
        self.fresh_until = float("-inf")
        """The elapsed time until which `revocations` is proven to be fresh."""
        self.fresh_from = float("inf")
        self.fresh_to = float("-inf")
        """The same period by the wall clock, which the machine may set. Freshness requires both clocks."""
        self.proven_at = float("-inf")
        """The elapsed time at which the last proof began."""

    def is_fresh(self, now: float, elapsed: float) -> bool:
        """Tell whether the known revocations are proven to be at most S seconds old.

        Used for setup, status and explanations. Validations compare the same bounds in `local`, inline for speed:
        change both.
        """
        return elapsed < self.fresh_until and self.fresh_from <= now < self.fresh_to


class AlwaysFresh(Feed):
    """The feed of an issuer that does not publish revocations."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.fresh_until = self.fresh_to = float("inf")
        self.fresh_from = float("-inf")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a replica has reached after a message, an answer or a restored file: all fields belong to one moment."""

    cursor: Cursor | None
    """The place in the log up to which `feed.revocations` is complete."""
    key_revision: int
    """The revision of the key set in use; -1: no key set yet."""
    issuer_seen: str | None
    """The issuer of the last received key set, even if the key set was refused."""
    has_keys: bool
    feed: Feed
    """A copy with constant times."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A running freshness probe: its start on both clocks, and the cursor at that time."""

    elapsed: float
    now: float
    cursor: Cursor | None


class FollowerState:
    """The validator's replica of the revocations and the proofs of its freshness, as a state machine.

    One thread or task drives it. Any thread reads `feed` and `standing`. Validations read `feed`, which changes several
    times during one event. `standing` is for status: each event replaces it once, when the event is complete.
    """

    def __init__(
        self, issuer: str, bound: float, clock: ValidatorClock, take_keys: TakeKeys, counters: Counters
    ) -> None:
        self.feed = Feed()
        self.cursor: Cursor | None = None
        """The place in the log up to which `feed.revocations` is complete."""
        self.key_revision = -1
        self.jwks: list[dict[str, str]] = []
        """The key set in use, with its revision."""
        self.issuer_seen: str | None = None
        """The issuer of the last received key set, even if the key set was refused."""
        self._issuer = issuer
        self._bound = bound
        self._now, self._elapsed = clock.now, clock.elapsed
        self._take_keys = take_keys
        self._counters = counters
        self.report = ValidationReport(counters)
        """Kept here, because a validator that is started again must not report its counts again."""
        self.standing: Standing
        self._publish()
        self._offset: float | None = None  # wall clock minus elapsed time, at the start of the set
        self._building: _Building | None = None
        self._pending: deque[tuple[Probe, Cursor]] = deque(maxlen=_MAX_PENDING)
        self._behind_since: float | None = None
        self._probed_at = float("-inf")
        self._start_over = False
        self._rewound = False

    # --- the stream ---

    def connect(self) -> str:
        """Begin a stream; return the cursor for its request, empty to request a snapshot."""
        self._building = None
        self._behind_since = None
        return str(self.cursor) if self.cursor is not None and not self._start_over else ""

    def open(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Do the first step of a message: begin a snapshot if the message requires one."""
        if message.reset:
            self._building = _Building(self._now() - self._elapsed())
        elif self._building is None and (self.cursor is None or self._start_over):
            raise StreamProtocolError("the stream did not begin with a snapshot")
        if message.snapshot_blocks and self._building is None:
            raise StreamProtocolError("the stream sent a part of a snapshot without its beginning")

    def load(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Do the second step: load packed ids. Any thread may call it: it changes only the unfinished snapshot."""
        if self._building is None:
            return
        try:
            for part in message.snapshot_blocks:
                block = block_of(part)
                # Load small pieces, because one call holds the interpreter lock for its whole piece.
                for at in range(0, len(block.fingerprints), _CHUNK):
                    piece = block.fingerprints[at : at + _CHUNK]
                    self._building.revocations.load(
                        Block(block.target, block.bucket, piece, block.expire_time)
                    )
        except ValueError as error:
            raise StreamProtocolError(str(error)) from None

    def apply(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Do the third step: apply entries, keys and cursor."""
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
            self._behind_since = None  # the stream makes progress; a new stream would be no faster
        self._settle()
        self._publish()

    def receive(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        """Do all three steps of a message. Raises `StreamProtocolError`; the caller must then end the stream."""
        self.open(message)
        self.load(message)
        self.apply(message)

    def distrust(self) -> None:
        """Begin the next stream with a snapshot, because the last message did not continue the log."""
        self._building = None
        self._start_over = True

    # --- freshness ---

    def begin_probe(self) -> Probe:
        """Begin a probe. Call this before the probe is sent."""
        elapsed, now = self._elapsed(), self._now()
        if self._offset is not None and abs(now - elapsed - self._offset) > _MAX_CLOCK_STEP:
            # The wall clock was set. By the old time, entries that are still needed may have expired. So the replica
            # is not fresh until the service has sent a new snapshot.
            self._start_over = True
        self._probed_at = elapsed
        return Probe(elapsed, now, self.cursor)

    def answer(self, probe: Probe, head: str) -> None:
        """Use the response to a probe, the head of the log. Raises `StreamProtocolError` if `head` is no cursor."""
        try:
            cursor = Cursor.parse(head)
        except ValueError as error:
            raise StreamProtocolError(str(error)) from None
        known = probe.cursor
        if known is not None and known.epoch == cursor.epoch and known.sequence > cursor.sequence:
            # The head is before the known cursor, so the log returned to an earlier state. It will use its sequences
            # again for other entries. So no probe proves freshness until the service has sent a new snapshot.
            self._rewound = self._start_over = True
            self._end_freshness()
        else:
            self._pending.append((probe, cursor))
            self._settle()
        self._publish()

    def may_probe(self) -> bool:
        """Tell whether the last probe began long enough ago for an additional one."""
        return self._elapsed() - self._probed_at > self._bound / 10

    def needs_new_stream(self, stall_timeout: float) -> bool:
        """Tell whether to end the current stream.

        This is so if the replica needs a new snapshot, or if the stream stays behind the head from a probe without
        progress.
        """
        building = self._building
        # If the log lost entries, a snapshot that waits to catch up with the replica would wait for these entries.
        if self._start_over and (building is None or (self._rewound and building.cursor is not None)):
            return True
        return self._behind_since is not None and self._elapsed() - self._behind_since > stall_timeout

    def sweep(self) -> None:
        """Forget expired entries, by the clock that does not jump. Call this every few seconds."""
        if self._offset is not None:
            # Allow the step twice: the wall clock may have gone back once before the last probe, and again after it.
            self.feed.revocations.drop_expired(self._elapsed() + self._offset - 2 * _MAX_CLOCK_STEP)

    # --- keys and warm start ---

    def take_key_set(self, key_set: key_service_pb2.KeySet) -> bool:
        """Use a requested key set if it is newer than the current one.

        Returns whether the current keys are now at least as new as `key_set`.
        """
        taken = self._take_key_set(key_set)
        self._publish()
        return taken

    def _take_key_set(self, key_set: key_service_pb2.KeySet) -> bool:
        self.issuer_seen = key_set.issuer
        if key_set.issuer != self._issuer or key_set.revision < self.key_revision:
            self._counters.key_sets_refused += 1
            return False
        if key_set.revision == self.key_revision:
            return True
        return self.restore_keys(jwks_of(key_set), key_set.revision)

    def restore_keys(self, jwks: list[dict[str, str]], revision: int) -> bool:
        """Use these keys. Returns False, and changes nothing, if none of them is usable."""
        if not self._take_keys(jwks, revision):
            self._counters.key_sets_refused += 1
            return False
        self.key_revision = revision
        self.jwks = jwks
        self._counters.key_sets += 1
        return True

    def restore(self, revocations: RevocationSet, cursor: Cursor, proven_at: float) -> None:
        """Begin with a saved set, which is not fresh. The next stream resumes at its `cursor`.

        `proven_at` is the elapsed time of the last proof of the set.
        """
        self.feed.revocations = revocations
        self.feed.proven_at = proven_at
        self.cursor = cursor
        self._offset = self._now() - self._elapsed()
        self._publish()

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
                raise StreamProtocolError("the stream sent entries without a cursor")
        elif cursor.epoch != known.epoch or cursor.sequence != expected - 1:
            raise StreamProtocolError("the cursor does not fit the entries")

    def _take(self, key_set: key_service_pb2.KeySet, building: _Building | None) -> None:
        if building is not None and self.key_revision >= 0:
            building.key_set = key_set  # it may belong to another log, whose revisions started again
        else:
            self._take_key_set(key_set)

    def _replace_by(self, building: _Building, cursor: Cursor) -> None:
        same_log = self.cursor is not None and self.cursor.epoch == cursor.epoch
        if (
            same_log
            and self.cursor is not None
            and cursor.sequence < self.cursor.sequence
            and not self._rewound
        ):
            return  # the node is behind: build the snapshot until it lacks no entry of the replica
        if not same_log or self._start_over:
            self._pending.clear()
            self._end_freshness()
        if not same_log or self._rewound:
            self.feed.proven_at = float(
                "-inf"
            )  # set before the new set, because the proof does not hold for it
        if building.key_set is not None:
            if self.cursor is not None and (not same_log or self._rewound):
                self.key_revision = -1  # the revisions started again, or continue from an earlier one
            self._take_key_set(building.key_set)
        self.feed.revocations = building.revocations
        self.cursor = cursor
        self._offset = building.offset
        self._building = None
        self._start_over = self._rewound = False
        self._behind_since = None
        self._counters.resets += 1

    def _publish(self) -> None:
        self.standing = Standing(
            self.cursor, self.key_revision, self.issuer_seen, bool(self.jwks), copy(self.feed)
        )

    def _end_freshness(self) -> None:
        feed = self.feed
        feed.fresh_until = feed.fresh_to = float("-inf")

    def _settle(self) -> None:
        """Prove freshness by each answered probe whose head has been applied."""
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
        # In this order, a reader between two assignments sees a period that is too short, never one that is too long.
        feed.fresh_from = probe.now - _MAX_CLOCK_STEP
        feed.fresh_to = probe.now + self._bound
        feed.fresh_until = probe.elapsed + self._bound


class _Building:
    """An unfinished snapshot."""

    __slots__ = ("cursor", "key_set", "offset", "revocations")

    def __init__(self, offset: float) -> None:
        self.revocations = RevocationSet()
        self.cursor: Cursor | None = None
        self.key_set: key_service_pb2.KeySet | None = None
        self.offset = offset

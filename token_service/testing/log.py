"""A revocation log in memory, with the streams that follow it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from token_service.client._internal.following.messages import revocation_of
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.revocation_set import RevocationSet
from token_service.v1.key_service_pb2 import JsonWebKey, KeySet
from token_service.v1.token_service_pb2 import Revocation, StreamRevocationsResponse

EPOCH: Final = "testing-epoch"
_REMEMBERED: Final = 2 * 3600
_BY_NAME: Final = frozenset({"subject", "client_id", "key_id", "everything"})
"""Targets that a snapshot holds as entries, not as packed ids."""


class RevocationLog:
    """A log, the key set that its streams carry, and what followers have confirmed. Any thread may call it."""

    def __init__(self, key_set: Callable[[], KeySet]) -> None:
        self._key_set = key_set
        self._entries: list[Revocation] = []
        self._changed = threading.Condition()
        self._confirmed: dict[str, int] = {}
        self._followers: dict[int, str] = {}
        self._next_follower = 0
        self._ended = 0
        self.is_out = False
        """Whether the service is made to look down."""

    @property
    def head(self) -> int:
        """The sequence of the last entry."""
        return len(self._entries)

    def cursor(self, sequence: int | None = None) -> str:
        """Return the cursor of a place; None: of the head."""
        return f"{EPOCH}:{self.head if sequence is None else sequence}"

    def append(self, entry: Revocation) -> int:
        """Append an entry; return its sequence."""
        now = time.time()
        entry.revoke_time.CopyFrom(timestamp(now))
        entry.expire_time.CopyFrom(timestamp(now + _REMEMBERED))
        with self._changed:
            entry.sequence = len(self._entries) + 1
            self._entries.append(entry)
            self._changed.notify_all()
            return int(entry.sequence)

    def wake(self) -> None:
        """Let all streams look again."""
        with self._changed:
            self._changed.notify_all()

    def revokes(self, claims: VerifiedClaims) -> bool:
        """Return whether an entry revokes a token."""
        revocations = RevocationSet()
        for entry in tuple(self._entries):
            revocations.apply(revocation_of(entry))
        return revocations.find(claims) is not None

    def confirm(self, subscriber_id: str, cursor: str) -> None:
        """Record what a follower has applied."""
        epoch, _, sequence = cursor.partition(":")
        if epoch == EPOCH:
            with self._changed:
                self._confirmed[subscriber_id] = int(sequence)
                self._changed.notify_all()

    def wait_until_applied(self, sequence: int, timeout: float) -> tuple[int, int]:
        """Wait until all followers have confirmed an entry; return how many follow and how many have confirmed it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._behind(sequence), timeout)
            followers = set(self._followers.values())
            return len(followers), len(followers) - len(self._behind(sequence))

    def _behind(self, sequence: int) -> set[str]:
        return {name for name in self._followers.values() if self._confirmed.get(name, -1) < sequence}

    def end_streams(self) -> None:
        """End all streams. Followers reconnect."""
        with self._changed:
            self._ended += 1
            self._changed.notify_all()

    @contextmanager
    def _follower(self, subscriber_id: str) -> Iterator[None]:
        with self._changed:
            self._next_follower += 1
            number = self._next_follower
            self._followers[number] = subscriber_id
        try:
            yield
        finally:
            with self._changed:
                del self._followers[number]
                self._changed.notify_all()

    def follow(
        self, cursor: str, subscriber_id: str, is_open: Callable[[], bool]
    ) -> Iterator[StreamRevocationsResponse]:
        """Yield the messages of a stream until `is_open` is false or the streams are ended."""
        epoch, _, sequence = cursor.partition(":")
        place = int(sequence) if epoch == EPOCH else None
        keys: int | None = None
        ended = self._ended
        with self._follower(subscriber_id):
            while True:
                with self._changed:
                    while is_open() and self._ended == ended and not self._has_news(place, keys):
                        self._changed.wait()
                    if not is_open() or self._ended != ended:
                        return
                    message = self._snapshot() if place is None else self._tail(place)
                    place = self.head
                    key_set = self._key_set()
                    if key_set.revision != keys:
                        message.key_set.CopyFrom(key_set)
                        keys = key_set.revision
                yield message

    def _has_news(self, place: int | None, keys: int | None) -> bool:
        return place != self.head or keys != self._key_set().revision

    def _tail(self, place: int) -> StreamRevocationsResponse:
        return StreamRevocationsResponse(
            revocations=self._entries[place:],
            cursor=self.cursor(),
            caught_up=True,
            confirmation_requested=True,
        )

    def _snapshot(self) -> StreamRevocationsResponse:
        revocations = RevocationSet()
        for entry in self._entries:
            revocations.apply(revocation_of(entry))
        message = StreamRevocationsResponse(
            reset=True,
            revocations=[entry for entry in self._entries if entry.WhichOneof("target") in _BY_NAME],
            cursor=self.cursor(),
            caught_up=True,
            confirmation_requested=True,
        )
        for block in revocations.blocks():
            message.snapshot_blocks.add(
                target=int(block.target),
                bucket=block.bucket,
                fingerprints=block.fingerprints,
                expire_time=timestamp(block.expire_time),
            )
        return message


def key_set_of(issuer: str, revision: int, jwks: list[dict[str, str]]) -> KeySet:
    """Return a key set as the service sends it."""
    return KeySet(revision=revision, keys=[JsonWebKey(**jwk) for jwk in jwks], issuer=issuer)


def timestamp(seconds: float) -> Timestamp:
    """Return a time as a message."""
    found = Timestamp()
    found.FromMicroseconds(int(seconds * 1_000_000))
    return found

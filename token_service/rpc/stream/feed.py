"""The fan-out of StreamRevocations: sends the replica's new entries to every reader, as bytes encoded once.

A reader has a position in the log and receives the following entries in as few messages as possible: one message is in
flight, and entries that arrive meanwhile go into the next. So even a slow reader costs only its position in memory. The
start depends on the reader's cursor:

- within the ring: the entries that follow it;
- older, but nothing after it was compacted: the gap, read from SQL, then the ring;
- missing, of another log, compacted, or beyond the head: `reset` and a snapshot, then the ring.

No entry is ever skipped: a reader that can't be served without a gap receives a status that makes it reconnect.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.access.quotas import Quota
from token_service.core.keys.keyring import Keyring
from token_service.core.revocation.followed_log import FollowedLog
from token_service.core.subscribers.registry import Subscribers
from token_service.errors import (
    CallerUnauthenticatedError,
    OverloadedError,
    PermissionDeniedError,
    ReplicaStaleError,
    ServiceError,
    ShuttingDownError,
    StreamEndedError,
)
from token_service.rpc.convert.requests import subscription
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.edge import key_of
from token_service.rpc.server.reception import Context
from token_service.rpc.stream.endings import Endings
from token_service.rpc.stream.gap_pages import GapPages
from token_service.rpc.stream.messages import RESET, encode_entry, encode_keys, encode_position
from token_service.rpc.stream.ring import Ring
from token_service.rpc.stream.snapshots import Snapshots
from token_service.rpc.stream.stream import Stream
from token_service.tokens.revocation import Cursor, Revocation
from token_service.v1.token_service_pb2 import StreamRevocationsRequest

_CATCH_UP_TIMEOUT: Final = 10.0
_RETRY_AFTER: Final = 1.0
_MAX_TAIL: Final = 1000
"""Entries that may follow a shared snapshot.

Beyond this number, and beyond a share of the snapshot, a new snapshot is cheaper: a reader applies a packed entry in a
hundredth of the time.
"""
_TAIL_SHARE: Final = 8
_AGE_JITTER: Final = 0.2
"""Share by which the lifetime of streams varies, so that readers that connected together do not reconnect together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLimits:
    """The limits of revocation streams. Times in seconds."""

    max_streams: int
    max_streams_per_caller: int
    max_age: float
    """How long a stream lives, give or take a fifth."""
    max_stall: float
    """How long a reader may leave a message unread."""
    ring_capacity: int
    """Entries of the log kept ready for streams that are a little behind."""


class Feed:
    """Streams revocations to any number of readers. A listener of the replica; for one event loop."""

    def __init__(
        self,
        followed: FollowedLog,
        keyring: Keyring,
        subscribers: Subscribers,
        authorizer: Authorizer,
        clock: Clock,
        *,
        issuer: str,
        limits: FeedLimits,
    ) -> None:
        replica = followed.replica
        self._replica = replica
        self._read_index = followed.read_index
        self._tailer = followed.tailer
        self._keyring = keyring
        self._subscribers = subscribers
        self._authorizer = authorizer
        self._clock = clock
        self._issuer = issuer
        self._limits = limits
        self._of_caller = Quota("streams", limits.max_streams_per_caller, retry_after=_RETRY_AFTER)
        self._epoch = replica.epoch
        self._ring = Ring(limits.ring_capacity, replica.applied)
        self._snapshots = Snapshots(replica)
        self._resets = 0
        self._keys = self._encode_keys()
        self._messages: dict[tuple[int, bool, bool], tuple[int, bytes]] = {}
        self._gap_pages = GapPages(followed.log, lambda: self._ring.head)
        self._gap_pages.reset(self._epoch)
        self._moved = asyncio.Event()
        self._streams: set[Stream] = set()
        self._endings = Endings()
        self._closing = False
        replica.listen(self)
        keyring.on_change(self._keys_changed)
        subscribers.on_request(self._wake)
        authorizer.on_change(self._permissions_changed)

    def limit_streams(self, most: int, per_caller: int) -> None:
        """Change the number of open streams, of all callers and of each. Open streams go on."""
        self._limits = replace(self._limits, max_streams=most, max_streams_per_caller=per_caller)
        self._of_caller.limit = per_caller

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._streams)

    @property
    def is_fresh(self) -> bool:
        """Whether the replica is fresh enough to answer from."""
        try:
            self._tailer.require_fresh()
        except ReplicaStaleError:
            return False
        return True

    # --- Events -------------------------------------------------------------------------------------------------------

    def applied(self, entries: Sequence[Revocation]) -> None:
        """Add the entries that the replica has applied."""
        self._ring.append(encode_entry(entry) for entry in entries)
        self._end_revoked(self._streams)
        self._wake()

    def was_reset(self) -> None:
        """Start over after a reset of the replica: every reader needs a snapshot."""
        if self._epoch != self._replica.epoch or self._replica.applied < self._ring.head:
            self._epoch = self._replica.epoch
            for stream in self._streams:
                stream.requested = 0
        self._resets += 1
        self._ring.reset(self._replica.applied)
        self._gap_pages.reset(self._epoch)
        self._end_revoked(self._streams)
        self._wake()

    def _keys_changed(self) -> None:
        keys = self._encode_keys()
        if keys != self._keys:
            self._keys = keys
            self._wake()

    def _encode_keys(self) -> bytes:
        return encode_keys(self._keyring.jwks, self._keyring.revision, self._issuer)

    def _wake(self) -> None:
        self._messages.clear()
        self._moved.set()  # wakes current waiters, not later ones
        self._moved.clear()

    # --- Ends of streams ----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """End streams that are too old, whose reader does not read, or whose caller's proof has expired.

        Call it about once a second.
        """
        now, time = self._clock.monotonic(), self._clock.now()
        ended = False
        for stream in self._streams:
            if stream.aborted:
                continue
            if stream.sending_since is not None and now - stream.sending_since > self._limits.max_stall:
                self._end_unread(
                    stream,
                    stream.end or StreamEndedError("the reader was too slow", retry_after=_RETRY_AFTER),
                )
            elif stream.end is None and now > stream.until:
                stream.end = StreamEndedError("the stream reached its greatest age", retry_after=0.0)
                ended = True
            elif stream.end is None and time >= stream.caller.expire_time:
                stream.end = CallerUnauthenticatedError(
                    "the proof of the caller, such as its certificate, has expired"
                )
                ended = True
        if ended:
            self._wake()

    def _end_revoked(self, streams: Iterable[Stream]) -> None:
        """End those of the streams whose caller's bearer token is revoked."""
        find = self._replica.revocations.find
        for stream in streams:
            token = stream.caller.token
            if token is not None and find(token) is not None:
                stream.end = stream.end or CallerUnauthenticatedError(
                    "the bearer token of the caller was revoked"
                )

    def _permissions_changed(self) -> None:
        """End the streams of callers that have lost the permission, even while the streams are idle.

        A proof may also expire earlier than before.

        A stream with a message in flight ends after that message.
        """
        ended = False
        for stream in self._streams:
            stream.caller = replace(
                stream.caller,
                rights=self._authorizer.rights(stream.caller),
                expire_time=self._authorizer.expire_time(stream.caller),
            )
            try:
                admit(stream.caller, UseCase.STREAM_REVOCATIONS)
            except PermissionDeniedError as error:
                needed = error.metadata["permission"]
                stream.end = stream.end or PermissionDeniedError(
                    f"the permission {needed} was taken away", metadata=error.metadata
                )
                ended = True
        if ended:
            self._wake()

    def close(self) -> None:
        """End all streams with a status that makes their readers go to another node, and refuse new ones."""
        self._closing = True
        for stream in self._streams:
            stream.end = stream.end or ShuttingDownError(retry_after=_RETRY_AFTER)
        self._wake()

    async def aclose(self) -> None:
        """Release all resources. Call it after the server has stopped."""
        self.close()
        await self._snapshots.close()
        await self._gap_pages.close()
        await self._endings.aclose()

    def _end_unread(self, stream: Stream, error: ServiceError) -> None:
        """End a stream whose reader leaves a message unread."""
        stream.end = error
        stream.aborted = True
        self._endings.end(stream.context, error)

    # --- One stream ---------------------------------------------------------------------------------------------------

    async def stream(self, request: StreamRevocationsRequest, context: Context, caller: Caller) -> None:
        """Serve a reader until it disconnects or the stream ends; never return.

        Raises `InvalidRequestError`, `OverloadedError`, `StreamEndedError`, `ShuttingDownError`,
        `StoreUnavailableError`, `ReplicaStaleError`, `PermissionDeniedError` if the caller lacks or loses the
        permission, and `CallerUnauthenticatedError` once the caller's proof has expired.
        """
        admit(caller, UseCase.STREAM_REVOCATIONS)
        cursor = subscription(request.cursor, request.subscriber_id, "cursor")
        if self._closing:
            raise ShuttingDownError(retry_after=_RETRY_AFTER)
        if len(self._streams) >= self._limits.max_streams:
            raise OverloadedError("the server has as many streams as it allows", retry_after=_RETRY_AFTER)
        with self._of_caller.holding(key_of(caller, context)):
            await self._serve(request, cursor, context, caller)

    async def _serve(
        self, request: StreamRevocationsRequest, cursor: Cursor | None, context: Context, caller: Caller
    ) -> None:
        age = self._limits.max_age * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311  # spreads load, no secret
        stream = Stream(context, caller, self._clock.monotonic() + age)
        self._streams.add(stream)
        self._end_revoked((stream,))  # the token may have been revoked while the request arrived
        subscriber = caller.subscriber(request.subscriber_id) if request.subscriber_id else ""
        if subscriber:
            self._subscribers.connect(subscriber, request.subscriber_id, caller.name)
        try:
            if cursor is not None:
                await self._resume(stream, cursor)
            while True:
                if stream.resets != self._resets:
                    await self._send_snapshot(stream)
                elif stream.position < self._ring.floor:
                    await self._send_gap(stream)
                else:
                    await self._follow(stream)
        finally:
            self._streams.discard(stream)
            if subscriber:
                self._subscribers.disconnect(subscriber)

    async def _resume(self, stream: Stream, cursor: Cursor) -> None:
        """Set the position of a stream to its cursor, if the log can be read from there."""
        replica = self._replica
        if cursor.epoch != replica.epoch or cursor.sequence > replica.applied:
            # The cursor is unknown, but this node may be behind.
            try:
                async with asyncio.timeout(_CATCH_UP_TIMEOUT):
                    await self._tailer.catch_up()
            except TimeoutError:
                raise ReplicaStaleError(retry_after=_RETRY_AFTER) from None
            if cursor.epoch != replica.epoch or cursor.sequence > replica.applied:
                return
        resets = self._resets
        if cursor.sequence < self._ring.floor:
            head = await self._read_index.head()
            if head.epoch != cursor.epoch or cursor.sequence < head.compacted:
                return
        stream.position, stream.resets = cursor.sequence, resets

    async def _send_snapshot(self, stream: Stream) -> None:
        resets, epoch = self._resets, self._replica.epoch
        longest_tail = max(_MAX_TAIL, len(self._replica.revocations) // _TAIL_SHARE)
        snapshot = await self._snapshots.get(max(self._ring.floor, self._ring.head - longest_tail))
        if resets != self._resets:
            return
        prefix = RESET
        last = len(snapshot.bodies) - 1
        for number, body in enumerate(snapshot.bodies):
            parts = [prefix, body]
            if stream.keys is not self._keys:
                stream.keys = self._keys
                parts.append(self._keys)
            if number == last:
                stream.behind = snapshot.sequence != self._ring.head
                cursor = str(Cursor(epoch, snapshot.sequence))
                parts.append(encode_position(cursor, caught_up=not stream.behind))
            await self._send(stream, b"".join(parts))
            if resets != self._resets:
                return
            prefix = b""
        stream.position, stream.resets = snapshot.sequence, resets

    async def _send_gap(self, stream: Stream) -> None:
        """Send entries below the ring from SQL; drop the position if they are compacted."""
        while stream.position < self._ring.floor and stream.resets == self._resets:
            page = await self._gap_pages.get(stream.position)
            if stream.resets != self._resets:
                return
            if page is None:
                stream.resets = -1
                return
            message = page.message(stream.position)
            stream.position = page.last
            stream.behind = True
            await self._send(stream, message)

    async def _follow(self, stream: Stream) -> None:
        """Send new entries as they arrive, until the stream needs a snapshot or a gap."""
        while stream.resets == self._resets:
            if stream.end is not None:
                raise stream.end
            if stream.position < self._ring.floor:
                raise StreamEndedError("the reader was too slow", retry_after=_RETRY_AFTER)
            message = self._next(stream)
            if message is None:
                await self._moved.wait()
            else:
                await self._send(stream, message)

    def _next(self, stream: Stream) -> bytes | None:
        """Return the next message of a stream within the ring, and advance the stream; None: nothing is new."""
        ring = self._ring
        requested = self._subscribers.requested
        keys = stream.keys is not self._keys
        asked = requested > stream.requested and requested <= ring.head
        position = stream.position
        if position == ring.head and not (keys or asked or stream.behind):
            return None
        known = self._messages.get((position, keys, asked))
        if known is None:
            reached, entries = ring.batch(position)
            cursor = str(Cursor(self._epoch, reached))
            caught_up = reached == ring.head
            tail = encode_position(cursor, caught_up=caught_up, confirm=asked and reached >= requested)
            known = reached, b"".join([self._keys if keys else b"", entries, tail])
            self._messages[position, keys, asked] = known
        stream.position, message = known
        stream.behind = stream.position != ring.head
        stream.keys = self._keys
        if asked and stream.position >= requested:
            stream.requested = requested
        return message

    async def _send(self, stream: Stream, message: bytes) -> None:
        if stream.end is not None:  # set during an earlier wait
            raise stream.end
        stream.sending_since = self._clock.monotonic()
        await stream.context.write(message)
        stream.sending_since = None
        if stream.end is not None:
            raise stream.end

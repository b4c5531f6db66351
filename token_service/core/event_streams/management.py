"""The management of streams by their receivers (SSF 1.0, section 8.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import RECEIVER_MANAGE, RECEIVER_READ, admit_receiver
from token_service.core.entropy import Entropy
from token_service.core.event_streams.changes import StreamSettings, note_change
from token_service.core.event_streams.event_types import VERIFICATION
from token_service.core.event_streams.headers import PushHeaders
from token_service.core.event_streams.sets import about_stream
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import (
    MAX_REMOVED_SUBJECTS,
    MAX_STREAMS,
    MIN_VERIFICATION_INTERVAL,
    EventStream,
    StreamStatus,
)
from token_service.core.event_streams.subjects import fingerprint_of
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action
from token_service.core.limits import Checks
from token_service.errors import (
    EventStreamNotFoundError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    TooManyEventStreamsError,
)

MAX_REASON: Final = 256
MAX_STATE: Final = 1024
_ID_BYTES: Final = 16
_MAX_ATTEMPTS: Final = 5


class ReceiverStreams:
    """Manages the streams of the calling client. Each method raises `StoreUnavailableError`.

    Every method raises `CallerUnauthenticatedError` and `PermissionDeniedError` unless the caller has an access token with
    the scope, and `EventStreamNotFoundError` for a stream that is unknown or of another client.
    """

    def __init__(
        self,
        store: EventStreamStore,
        headers: PushHeaders,
        audit: Audit,
        clock: Clock,
        entropy: Entropy,
        *,
        issuer: str,
        problem_of_url: Callable[[str], str],
        changed: Callable[[], None],
    ) -> None:
        """`problem_of_url` tells why nothing can be pushed to a URL; `changed` is called after each change."""
        self._store = store
        self._headers = headers
        self._audit = audit
        self._clock = clock
        self._entropy = entropy
        self._issuer = issuer
        self._problem_of_url = problem_of_url
        self._changed = changed

    async def create(self, caller: Caller, settings: StreamSettings) -> EventStream:
        """Create a stream that begins with the next event. Raises `InvalidRequestError` and `TooManyEventStreamsError`."""
        client_id = admit_receiver(caller, RECEIVER_MANAGE)
        settings.check(self._problem_of_url)
        stream_id = self._entropy(_ID_BYTES).hex()
        stream = self._configured(
            EventStream(
                stream_id=stream_id,
                client_id=client_id,
                method=settings.method,
                create_time=self._clock.now(),
            ),
            settings,
        )
        event = note_change(caller.actor(), Action.EVENT_STREAM_CREATED, stream)
        if not await self._store.create(stream, MAX_STREAMS, [event]):
            raise TooManyEventStreamsError(f"the client has {MAX_STREAMS} event streams; delete one of them")
        self._audit.record(event)
        self._changed()
        return stream

    async def list(self, caller: Caller) -> Sequence[EventStream]:
        """Return the streams of the caller."""
        return await self._store.list(admit_receiver(caller, RECEIVER_READ))

    async def get(self, caller: Caller, stream_id: str) -> EventStream:
        """Return a stream of the caller."""
        return await self._own(caller, RECEIVER_READ, stream_id)

    async def configure(
        self, caller: Caller, stream_id: str, settings: Callable[[EventStream], StreamSettings]
    ) -> EventStream:
        """Change the configuration of a stream to what `settings` makes of it. Raises `InvalidRequestError`."""

        def change(stream: EventStream) -> EventStream:
            wanted = settings(stream)
            wanted.check(self._problem_of_url)
            return self._configured(stream, wanted)

        return await self._change(caller, stream_id, change)

    async def delete(self, caller: Caller, stream_id: str) -> None:
        """Delete a stream with the events that wait in it."""
        stream = await self._own(caller, RECEIVER_MANAGE, stream_id)
        event = note_change(caller.actor(), Action.EVENT_STREAM_DELETED, stream)
        if not await self._store.delete(stream_id, [event]):
            raise EventStreamNotFoundError
        self._audit.record(event)
        self._changed()

    async def set_status(self, caller: Caller, stream_id: str, status: str, reason: str) -> EventStream:
        """Enable, pause or disable a stream. Raises `InvalidRequestError`.

        A paused stream keeps its place in the event log. A disabled one gives up what waits, and continues with the next
        event once it is enabled.
        """
        checks = Checks()
        if status not in tuple(StreamStatus):
            checks.add("status", f"must be one of {', '.join(StreamStatus)}")
        checks.text("reason", reason, MAX_REASON)
        checks.done()
        return await self._change(
            caller,
            stream_id,
            lambda stream: structs.replace(stream, status=StreamStatus(status), reason=reason),
        )

    async def add_subject(self, caller: Caller, stream_id: str, identifier: Any) -> None:
        """Send events about a subject again that was removed. Raises `InvalidRequestError`."""
        await self._own(caller, RECEIVER_MANAGE, stream_id)
        await self._store.add_subject(stream_id, fingerprint_of(identifier, stream_id, self._issuer))

    async def remove_subject(self, caller: Caller, stream_id: str, identifier: Any) -> None:
        """Send no further events that name the whole subject. Raises `InvalidRequestError`."""
        await self._own(caller, RECEIVER_MANAGE, stream_id)
        fingerprint = fingerprint_of(identifier, stream_id, self._issuer)
        if not await self._store.remove_subject(stream_id, fingerprint, MAX_REMOVED_SUBJECTS):
            raise InvalidRequestError.of(
                "subject",
                f"can't be removed, because {MAX_REMOVED_SUBJECTS} subjects are; filter at the receiver",
            )

    async def verify(self, caller: Caller, stream_id: str, state: str) -> None:
        """Send a verification event. Raises `InvalidRequestError` and, too soon after the last one, `RateLimitedError`."""
        stream = await self._own(caller, RECEIVER_MANAGE, stream_id)
        checks = Checks()
        checks.text("state", state, MAX_STATE)
        if stream.status is StreamStatus.DISABLED:
            checks.add("stream_id", "names a stream that is disabled; enable it first")
        checks.done()
        now = self._clock.now()
        event = about_stream(VERIFICATION, {"state": state} if state else {}, now, self._entropy)
        if not await self._store.verify(stream_id, event, now - MIN_VERIFICATION_INTERVAL):
            raise RateLimitedError(
                f"a verification can be asked for once in {MIN_VERIFICATION_INTERVAL} seconds",
                retry_after=MIN_VERIFICATION_INTERVAL,
            )
        self._changed()

    def _configured(self, stream: EventStream, settings: StreamSettings) -> EventStream:
        stream = structs.replace(
            stream,
            method=settings.method,
            endpoint_url=settings.endpoint_url,
            events_requested=settings.events_requested,
            description=settings.description,
        )
        if settings.keeps_authorization:
            return stream
        return self._headers.sealed(stream, settings.authorization)

    async def _change(
        self, caller: Caller, stream_id: str, change: Callable[[EventStream], EventStream]
    ) -> EventStream:
        for _ in range(_MAX_ATTEMPTS):
            before = await self._own(caller, RECEIVER_MANAGE, stream_id)
            after = structs.replace(change(before), revision=before.revision + 1)
            event = note_change(caller.actor(), Action.EVENT_STREAM_UPDATED, after, before)
            saved = await self._store.save(
                after,
                [event],
                drop=after.status is StreamStatus.DISABLED,
                restart=before.status is StreamStatus.DISABLED and after.status is not before.status,
            )
            if saved:
                self._audit.record(event)
                self._changed()
                return after
        raise OverloadedError("the event stream kept changing", retry_after=0.1)

    async def _own(self, caller: Caller, scope: str, stream_id: str) -> EventStream:
        client_id = admit_receiver(caller, scope)
        stream = await self._store.get(stream_id)
        if stream is None or stream.client_id != client_id:
            raise EventStreamNotFoundError
        return stream

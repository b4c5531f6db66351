"""The streams of StreamEvents: limits, and the ends that the server decides."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.access.quotas import Quota
from token_service.core.reports.event_readers import EventReaders
from token_service.core.revocation.replica import Replica
from token_service.errors import (
    CallerUnauthenticatedError,
    OverloadedError,
    PermissionDeniedError,
    ServiceError,
    ShuttingDownError,
    StreamEndedError,
)
from token_service.rpc.convert.events import event_filter, events_response
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.edge import key_of
from token_service.rpc.server.reception import Context
from token_service.rpc.stream.endings import Endings
from token_service.v1.event_service_pb2 import StreamEventsRequest

MAX_EVENT_READERS: Final = 100
"""Open streams of one node."""
MAX_EVENT_READERS_PER_CALLER: Final = 20
_RETRY_AFTER: Final = 1.0
_AGE_JITTER: Final = 0.2


@dataclass(eq=False, slots=True)
class _Stream:
    """One reader."""

    context: Context
    caller: Caller
    until: float
    task: asyncio.Task[None]
    sending_since: float | None = None
    end: ServiceError | None = None
    """Why the stream ends or has ended."""


class EventReaderServer:
    """Serves StreamEvents. For one event loop."""

    def __init__(
        self,
        streams: EventReaders,
        replica: Replica,
        authorizer: Authorizer,
        clock: Clock,
        *,
        max_age: float,
        max_stall: float,
    ) -> None:
        """`max_age`: seconds that a stream lives, give or take a fifth; `max_stall`: that a message may stay unread."""
        self._events = streams
        self._replica = replica
        self._authorizer = authorizer
        self._clock = clock
        self._max_age = max_age
        self._max_stall = max_stall
        self._of_caller = Quota("event readers", MAX_EVENT_READERS_PER_CALLER, retry_after=_RETRY_AFTER)
        self._open: set[_Stream] = set()
        self._endings = Endings()
        self._closing = False
        authorizer.on_change(self._permissions_changed)

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._open)

    async def stream(self, request: StreamEventsRequest, context: Context, caller: Caller) -> None:
        """Serve a reader until it disconnects or the stream ends; never return.

        Raises what `EventReaders.stream` raises, `OverloadedError`, `StreamEndedError`, `ShuttingDownError`, and
        `CallerUnauthenticatedError` once the caller's proof has expired.
        """
        if self._closing:
            raise ShuttingDownError(retry_after=_RETRY_AFTER)
        if (invalid := self._invalid(caller)) is not None:  # revoked while the request arrived
            raise invalid
        if len(self._open) >= MAX_EVENT_READERS:
            raise OverloadedError(
                "the server has as many readers of events as it allows", retry_after=_RETRY_AFTER
            )
        task = asyncio.current_task()
        assert task is not None
        age = self._max_age * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311  # spreads load, no secret
        stream = _Stream(context, caller, self._clock.monotonic() + age, task)
        with self._of_caller.holding(key_of(caller, context)):
            self._open.add(stream)
            try:
                await self._serve(request, stream)
            except asyncio.CancelledError:
                if stream.end is None:
                    raise
                task.uncancel()  # `_finish` cancelled it
                raise stream.end from None
            finally:
                self._open.discard(stream)

    async def _serve(self, request: StreamEventsRequest, stream: _Stream) -> None:
        pages = self._events.stream(
            stream.caller, event_filter(request), request.cursor, from_earliest=request.from_earliest
        )
        async with aclosing(pages):
            async for page in pages:
                stream.sending_since = self._clock.monotonic()
                await stream.context.write(events_response(page).SerializeToString())
                stream.sending_since = None
                if stream.end is not None:
                    raise stream.end

    def sweep(self) -> None:
        """End streams that are too old, whose reader does not read, or whose caller's proof is no longer valid."""
        now = self._clock.monotonic()
        for stream in list(self._open):
            if stream.sending_since is not None and now - stream.sending_since > self._max_stall:
                unread = stream.end or StreamEndedError("the reader was too slow", retry_after=_RETRY_AFTER)
                stream.end, stream.sending_since = unread, None
                self._endings.end(stream.context, unread)
            elif stream.end is not None:
                continue
            elif now > stream.until:
                _finish(stream, StreamEndedError("the stream reached its greatest age", retry_after=0.0))
            elif (invalid := self._invalid(stream.caller)) is not None:
                _finish(stream, invalid)

    def _invalid(self, caller: Caller) -> ServiceError | None:
        """Return the error for a caller whose proof is no longer valid."""
        if self._clock.now() >= caller.expire_time:
            return CallerUnauthenticatedError("the proof of the caller, such as its certificate, has expired")
        if caller.token is not None and self._replica.revocations.find(caller.token) is not None:
            return CallerUnauthenticatedError("the bearer token of the caller was revoked")
        return None

    def close(self) -> None:
        """End all streams with a status that makes their readers go to another node, and refuse new ones."""
        self._closing = True
        for stream in self._open:
            _finish(stream, ShuttingDownError(retry_after=_RETRY_AFTER))

    async def aclose(self) -> None:
        """Release all resources. Call it after the server has stopped."""
        self.close()
        await self._endings.aclose()

    def _permissions_changed(self) -> None:
        """End the streams of callers that have lost the permission, even while the streams are idle."""
        for stream in self._open:
            stream.caller = replace(
                stream.caller,
                rights=self._authorizer.rights(stream.caller),
                expire_time=self._authorizer.expire_time(stream.caller),
            )
            try:
                admit(stream.caller, UseCase.STREAM_EVENTS)
            except PermissionDeniedError as error:
                needed = error.metadata["permission"]
                _finish(
                    stream,
                    PermissionDeniedError(f"the permission {needed} was taken away", metadata=error.metadata),
                )


def _finish(stream: _Stream, error: ServiceError) -> None:
    """End a stream with an error. A message in flight is sent first."""
    if stream.end is None:
        stream.end = error
        if stream.sending_since is None:
            stream.task.cancel()

"""Pushes the waiting events of streams to their receivers (RFC 8935)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from token_service.clock import Clock
from token_service.core.event_streams.event_types import STREAM_UPDATED
from token_service.core.event_streams.headers import PushHeaders
from token_service.core.event_streams.outcome import Outcome
from token_service.core.event_streams.sets import SecurityEventTokens
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import DeliveryMethod, EventStream, StreamStatus
from token_service.core.event_streams.troubles import Troubles
from token_service.errors import TokenServiceError
from token_service.tokens.secret import Secret

MAX_PUSHED: Final = 16
"""Streams of one process that are pushed at the same time."""
_BATCH: Final = 20
_LAST_CHANCE: Final = 5.0
"""Seconds for the running pushes when the node stops."""
_ACCEPTED: Final = frozenset((200, 202, 204))
_INVALID: Final = frozenset(("invalid_request", "invalid_state"))
"""The error codes that speak of the event itself. Others tell of keys and settings, which can be mended."""

logger = logging.getLogger(__name__)


class PushFailedError(Exception):
    """A receiver gave no usable answer. The message is for operators."""


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """The answer of a receiver."""

    status: int
    body: bytes


SendEvent = Callable[[str, str, Secret | None], Awaitable[PushAnswer]]
"""`send(url, token, authorization)` posts a token in a bounded time. Raises `PushFailedError`."""


class _Error(msgspec.Struct):
    err: str = ""


_decode: Final = msgspec.json.Decoder(_Error).decode


class Pusher:
    """Sends the events of each stream one after another. A receiver that is away delays only its own."""

    def __init__(
        self,
        store: EventStreamStore,
        tokens: SecurityEventTokens,
        headers: PushHeaders,
        send: SendEvent,
        clock: Clock,
        count: Callable[[Outcome, int], None],
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._headers = headers
        self._send = send
        self._count = count
        self._running: dict[str, asyncio.Task[None]] = {}
        self._troubles = Troubles(clock)

    def begin(self, stream: EventStream) -> None:
        """Start to push the events of a stream, unless this is running, not due yet, or too many others are."""
        if stream.method is not DeliveryMethod.PUSH or stream.stream_id in self._running:
            return
        if not self._troubles.is_due(stream) or len(self._running) >= MAX_PUSHED:
            return
        task = asyncio.create_task(self._push(stream), name="event-stream-push")
        self._running[stream.stream_id] = task
        task.add_done_callback(lambda done: self._ended(stream, done))

    def keep_only(self, stream_ids: set[str]) -> None:
        """Forget the failures of streams that were deleted."""
        self._troubles.keep_only(stream_ids)

    async def stop(self) -> None:
        """Wait a short time for the running pushes, then cancel them. Another node repeats these."""
        tasks = list(self._running.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_LAST_CHANCE)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _ended(self, stream: EventStream, done: asyncio.Task[None]) -> None:
        del self._running[stream.stream_id]
        if done.cancelled() or (error := done.exception()) is None:
            return
        if isinstance(error, TokenServiceError):
            self._failed(stream, error.message, counted=False)
        else:
            self._failed_unexpectedly(stream, error)

    async def _push(self, stream: EventStream) -> None:
        """Push until nothing waits, or until an attempt fails."""
        while True:
            types = () if stream.status is StreamStatus.ENABLED else (STREAM_UPDATED,)
            waiting = await self._store.waiting(stream.stream_id, _BATCH, types)
            if not waiting:
                return
            header = self._headers.opened(stream)
            for event in waiting:
                token = await self._tokens.of(stream, event)
                if token is None:
                    self._count(Outcome.DROPPED, 1)
                elif not await self._attempt(stream, token, header):
                    return
                await self._store.finish(stream.stream_id, [event.token_id])
            current = await self._store.get(stream.stream_id)
            if current is None or current.revision != stream.revision:
                return  # begun again as it is now

    async def _attempt(self, stream: EventStream, token: str, header: Secret | None) -> bool:
        """Send one token; return whether the receiver needs it no more."""
        try:
            answer = await self._send(stream.endpoint_url, token, header)
        except PushFailedError as error:
            self._failed(stream, str(error))
            return False
        if answer.status in _ACCEPTED:
            self._succeeded(stream)
            self._count(Outcome.DELIVERED, 1)
            return True
        code = _code(answer)
        if answer.status == 400 and code in _INVALID:
            self._succeeded(stream)
            self._count(Outcome.REFUSED, 1)
            logger.warning(
                "client %s refuses an event of its stream %s, which is not sent again: %s",
                stream.client_id,
                stream.stream_id,
                code,
            )
            return True
        self._failed(stream, f"it answered with status {answer.status}" + (f" ({code})" if code else ""))
        return False

    def _failed(self, stream: EventStream, why: str, *, counted: bool = True) -> None:
        trouble = self._troubles.failed(stream)
        if counted:
            self._count(Outcome.FAILED, 1)
        if trouble.attempts == 1:
            logger.warning(
                "events of stream %s can't be pushed to client %s, trying again: %s",
                stream.stream_id,
                stream.client_id,
                why,
            )

    def _failed_unexpectedly(self, stream: EventStream, error: BaseException) -> None:
        """Put off a stream that meets a defect, as if its receiver were away. The log says so once."""
        trouble = self._troubles.failed(stream)
        problem = f"unexpected {type(error).__name__}"
        if trouble.problem == problem:
            return
        trouble.problem = problem
        # The message of the error may quote the header of the receiver, so the log shows only where it came from.
        logger.error(
            "events of stream %s can't be pushed to client %s, trying again: %s",
            stream.stream_id,
            stream.client_id,
            problem,
            exc_info=RuntimeError(problem).with_traceback(error.__traceback__),
        )

    def _succeeded(self, stream: EventStream) -> None:
        if self._troubles.succeeded(stream):
            logger.info(
                "events of stream %s are pushed to client %s again", stream.stream_id, stream.client_id
            )


def _code(answer: PushAnswer) -> str:
    """Return the error code of an answer (RFC 8935, section 2.4), if it is a known form of one."""
    try:
        code = _decode(answer.body).err
    except (msgspec.MsgspecError, ValueError):
        return ""
    return code if len(code) <= 64 and code.isascii() and code.replace("_", "a").isalnum() else ""

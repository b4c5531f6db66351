"""Reception of requests.

A call begins with its headers. Its message may arrive late, in pieces, or never, and may have several MiB. gRPC
buffers at most its flow-control window (64 KiB) of the message until the server reads it, and the whole message from
then on. So the server reads a request only after it has identified and admitted the caller, within a time limit, and
only a few requests of one caller concurrently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import grpc

from token_service.errors import DeadlineExceededError, InvalidRequestError
from token_service.rpc.server.deadlines import Deadlines

Context = grpc.aio.ServicerContext[Any, Any]


class _Turns:
    """The reads of one caller."""

    __slots__ = ("reading", "waiting")

    def __init__(self) -> None:
        self.reading = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Reception:
    """Reads one message of each call. For one event loop."""

    def __init__(self, deadlines: Deadlines, *, at_once: int, timeout: float) -> None:
        """Set the limits: `at_once` requests of one caller are read concurrently, further ones wait; a request must be
        complete after `timeout` seconds.
        """
        self._deadlines = deadlines
        self._at_once = at_once
        self._timeout = timeout
        self._callers: dict[Hashable, _Turns] = {}

    async def read(self, context: Context, caller: Hashable) -> bytes:
        """Return the encoded message of a call.

        Raises `DeadlineExceededError`, and `InvalidRequestError` if the caller closed its side without a message.
        """
        try:
            data = await self._deadlines.within(self._timeout, self._read(context, caller))
        except DeadlineExceededError:
            raise DeadlineExceededError(
                f"the request was not complete after {self._timeout:g} s; send it at once"
            ) from None
        if data is grpc.aio.EOF:
            raise InvalidRequestError.of("request", "is missing: the call has no message")
        return data  # type: ignore[no-any-return]  # read without a deserializer

    async def _read(self, context: Context, caller: Hashable) -> Any:
        turns = self._callers.get(caller)
        if turns is None:
            turns = self._callers[caller] = _Turns()
        if turns.reading < self._at_once:
            turns.reading += 1
        else:
            await self._turn(turns, caller)
        try:
            return await context.read()
        finally:
            self._pass_on(turns, caller)

    async def _turn(self, turns: _Turns, caller: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        turns.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # `_pass_on` has already skipped it
                    turns.waiting.remove(turn)
            else:  # it had just received the turn
                self._pass_on(turns, caller)
            raise

    def _pass_on(self, turns: _Turns, caller: Hashable) -> None:
        """Pass a finished turn on to the call that has waited longest."""
        while turns.waiting:
            turn = turns.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        turns.reading -= 1
        if not turns.reading:
            del self._callers[caller]

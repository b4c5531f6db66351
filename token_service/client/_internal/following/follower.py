"""Follower of the revocations for one event loop."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any, Final

import grpc

from token_service.client._internal.connection import Connection
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.state import FollowerState, StreamProtocolError
from token_service.client.config import ServiceIssuer
from token_service.errors import ServiceError
from token_service.v1.token_service_pb2 import (
    ConfirmRevocationsRequest,
    ConfirmRevocationsResponse,
    StreamRevocationsRequest,
    StreamRevocationsResponse,
)
from token_service.wire import error_from_rpc

PROBES_PER_BOUND: Final = 3
"""Probes within S seconds, so that one may be lost."""
SWEEP_INTERVAL: Final = 5.0
SHORTEST_GAP: Final = 0.02
"""Shortest time between two probes, in seconds."""
LARGE: Final = 64 * 1024

logger = logging.getLogger(__name__)


class Follower:
    """Follower of StreamRevocations that proves freshness until it is closed.

    Reconnects after every end of the stream.
    """

    def __init__(
        self,
        state: FollowerState,
        connection: Connection,
        issuer: ServiceIssuer,
        name: str,
        counters: Counters,
    ) -> None:
        """Configure the follower. `name` is the subscriber id."""
        self._state = state
        self._connection = connection
        self._contact = connection.contact
        self._issuer = issuer
        self._name = name
        self._counters = counters
        self._tasks: list[asyncio.Task[None]] = []
        self._call: Any = None
        self._nudged = asyncio.Event()
        self._came_back = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start following and return at once. The replica becomes fresh when the service has answered."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._follow(), name="follow-revocations"),
            asyncio.create_task(self._probe(), name="prove-freshness"),
        ]

    async def close(self) -> None:
        """Stop the follower, and wait until its tasks have ended."""
        if self._call is not None:
            self._call.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    def nudge(self) -> None:
        """Request a probe soon, unless the last one is recent. Any thread may call it."""
        loop = self._loop
        if loop is not None and not self._nudged.is_set() and self._state.may_probe():
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._nudged.set)

    async def _follow(self) -> None:
        attempt = 0
        while True:
            try:
                soon = await self._read_stream()
            except Exception:  # no other task awaits this one, and without it the replica stays stale
                logger.exception("following the revocations failed")
                soon = False
            attempt = 0 if soon else attempt + 1
            self._came_back.clear()
            delay = self._issuer.reconnect.delay(attempt, random.random())  # noqa: S311  # spreads load
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._came_back.wait()
                    attempt = 0
                    await asyncio.sleep(self._issuer.reconnect.delay(0, random.random()))  # noqa: S311  # as above

    async def _read_stream(self) -> bool:
        """Read one stream to its end; return whether the next one should follow soon."""
        state = self._state
        spoke = renewed = False
        ended = "OK"
        request = StreamRevocationsRequest(cursor=state.connect(), subscriber_id=self._name)
        self._counters.streams += 1
        stubs = self._connection.stubs
        self._call = call = stubs.StreamRevocations(request)
        try:
            message: StreamRevocationsResponse
            async for message in call:
                state.open(message)
                if message.ByteSize() > LARGE:
                    await asyncio.to_thread(state.load, message)
                else:
                    state.load(message)
                state.apply(message)
                if message.confirmation_requested or (message.caught_up and not spoke):
                    self._nudged.set()
                spoke = True
                self._contact.answered("StreamRevocations")
        except StreamProtocolError as error:
            ended = "PROTOCOL"
            state.distrust()
            logger.warning("the revocation stream restarts with a snapshot: %s", error)
        except grpc.RpcError as rpc_error:
            failure = error_from_rpc(rpc_error)
            ended = failure.reason.value
            logger.debug("the revocation stream ended: %s", ended)
            renewed = await self._connection.renew(failure, stubs)
            if not renewed:
                self._contact.failed("StreamRevocations", failure)
        except asyncio.CancelledError:
            # gRPC also raises this error for a call that was cancelled, alone or with its channel.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            ended = "GIVEN_UP"
        finally:
            call.cancel()
            self._call = None
            self._contact.stream_ended()
        self._counters.stream_ends[ended] += 1
        return spoke or renewed

    async def _probe(self) -> None:
        interval = self._issuer.freshness.bound / PROBES_PER_BOUND
        failures = 0
        swept = float("-inf")
        while True:
            self._nudged.clear()
            try:
                answered = await self._probe_once()
                if answered and failures:
                    self._came_back.set()  # ends the rest of a long delay
                failures = 0 if answered else failures + 1
                if self._state.needs_new_stream(self._issuer.stall_timeout):
                    self._give_up()
                now = asyncio.get_running_loop().time()
                if now - swept >= SWEEP_INTERVAL:
                    swept = now
                    self._state.sweep()
            except Exception:  # as above
                logger.exception("a freshness probe failed")
                failures += 1
            if failures:
                pause = self._issuer.reconnect.delay(failures - 1, random.random())  # noqa: S311  # spreads load
                await asyncio.sleep(min(interval, pause))
                continue
            await asyncio.sleep(SHORTEST_GAP)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval * random.uniform(0.8, 1.0)):  # noqa: S311  # spreads load
                    await self._nudged.wait()

    def _give_up(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def _probe_once(self) -> bool:
        state = self._state
        self._counters.probes += 1
        probe = state.begin_probe()
        request = ConfirmRevocationsRequest(
            subscriber_id=self._name,
            applied_cursor=str(probe.cursor) if probe.cursor is not None else "",
            key_set_revision=max(0, state.key_revision),
        )
        reported = state.report.fill(request)
        try:
            answer: ConfirmRevocationsResponse = await self._connection.call(
                "ConfirmRevocations", request, self._issuer.freshness.probe_timeout
            )
            state.report.acknowledge(reported)
            state.answer(probe, answer.head_cursor)
        except ServiceError as error:
            logger.debug("a freshness probe failed: %s", error.reason.value)
        except StreamProtocolError as error:
            logger.warning("the response to a freshness probe is malformed: %s", error)
        else:
            return True
        self._counters.probe_failures += 1
        return False

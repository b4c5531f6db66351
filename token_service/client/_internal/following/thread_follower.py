"""Follower of the revocations in two threads, for programs without an event loop."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Any

import grpc

from token_service.client._internal.connection import SyncConnection
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.follower import PROBES_PER_BOUND, SHORTEST_GAP, SWEEP_INTERVAL
from token_service.client._internal.following.state import FollowerState, StreamProtocolError
from token_service.client.config import ServiceIssuer
from token_service.errors import ServiceError
from token_service.v1.key_service_pb2 import KeySet
from token_service.v1.token_service_pb2 import ConfirmRevocationsRequest, StreamRevocationsRequest
from token_service.wire import error_from_rpc

logger = logging.getLogger(__name__)


class ThreadFollower:
    """Follower of StreamRevocations that proves freshness until it is closed.

    Reconnects after every end of the stream.
    """

    def __init__(
        self,
        state: FollowerState,
        connection: SyncConnection,
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
        self._call: Any = None
        self._nudged = threading.Event()
        self._came_back = threading.Event()
        self._stopping = threading.Event()
        self.writing = threading.Lock()
        """Lock for changes of the state. Validations never take it."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start following and return at once. The replica becomes fresh when the service has answered."""
        self._threads = [
            threading.Thread(target=self._follow, name="follow-revocations", daemon=True),
            threading.Thread(target=self._probe, name="prove-freshness", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the follower, and wait until both threads have ended."""
        self._stopping.set()
        self._nudged.set()
        self._came_back.set()
        self._give_up()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def nudge(self) -> None:
        """Request a probe soon, unless the last one is recent. Any thread may call it."""
        if not self._nudged.is_set() and self._state.may_probe():
            self._nudged.set()

    def take_key_set(self, key_set: KeySet) -> bool:
        """Call `FollowerState.take_key_set` from any thread."""
        with self.writing:
            return self._state.take_key_set(key_set)

    def _follow(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                soon = self._read_stream()
            except Exception:  # no other thread joins this one, and without it the replica stays stale
                logger.exception("following the revocations failed")
                soon = False
            attempt = 0 if soon else attempt + 1
            self._came_back.clear()
            if self._stopping.is_set():
                return
            if self._came_back.wait(self._issuer.reconnect.delay(attempt, random.random())):  # noqa: S311  # spreads load
                attempt = 0
                self._stopping.wait(self._issuer.reconnect.delay(0, random.random()))  # noqa: S311  # as above

    def _read_stream(self) -> bool:
        """Read one stream to its end; return whether the next one should follow soon."""
        state = self._state
        spoke = renewed = False
        ended = "OK"
        with self.writing:
            request = StreamRevocationsRequest(cursor=state.connect(), subscriber_id=self._name)
        self._counters.streams += 1
        stubs = self._connection.stubs
        self._call = call = stubs.StreamRevocations(request)
        if self._stopping.is_set():
            call.cancel()
        try:
            for message in call:
                with self.writing:
                    state.open(message)
                state.load(message)
                with self.writing:
                    state.apply(message)
                if message.confirmation_requested or (message.caught_up and not spoke):
                    self._nudged.set()
                spoke = True
                self._contact.answered("StreamRevocations")
        except StreamProtocolError as error:
            ended = "PROTOCOL"
            with self.writing:
                state.distrust()
            logger.warning("the revocation stream restarts with a snapshot: %s", error)
        except grpc.RpcError as rpc_error:
            failure = error_from_rpc(rpc_error)
            ended = failure.reason.value
            logger.debug("the revocation stream ended: %s", ended)
            renewed = self._connection.renew(failure, stubs)
            if not renewed:
                self._contact.failed("StreamRevocations", failure)
        finally:
            call.cancel()
            self._call = None
            self._contact.stream_ended()
        self._counters.stream_ends[ended] += 1
        return spoke or renewed

    def _probe(self) -> None:
        interval = self._issuer.freshness.bound / PROBES_PER_BOUND
        failures = 0
        swept = float("-inf")
        while not self._stopping.is_set():
            self._nudged.clear()
            try:
                answered = self._probe_once()
                if answered and failures:
                    self._came_back.set()  # ends the rest of a long delay
                failures = 0 if answered else failures + 1
                with self.writing:
                    if self._state.needs_new_stream(self._issuer.stall_timeout):
                        self._give_up()
                    now = time.monotonic()
                    if now - swept >= SWEEP_INTERVAL:
                        swept = now
                        self._state.sweep()
            except Exception:  # as above
                logger.exception("a freshness probe failed")
                failures += 1
            if failures:
                pause = self._issuer.reconnect.delay(failures - 1, random.random())  # noqa: S311  # spreads load
                self._stopping.wait(min(interval, pause))
                continue
            self._stopping.wait(SHORTEST_GAP)
            self._nudged.wait(interval * random.uniform(0.8, 1.0))  # noqa: S311  # spreads load

    def _give_up(self) -> None:
        call = self._call
        if call is not None:
            call.cancel()

    def _probe_once(self) -> bool:
        state = self._state
        self._counters.probes += 1
        with self.writing:
            probe = state.begin_probe()
        request = ConfirmRevocationsRequest(
            subscriber_id=self._name,
            applied_cursor=str(probe.cursor) if probe.cursor is not None else "",
            key_set_revision=max(0, state.key_revision),
        )
        reported = state.report.fill(request)
        try:
            answer = self._connection.call(
                "ConfirmRevocations", request, self._issuer.freshness.probe_timeout
            )
            state.report.acknowledge(reported)
            with self.writing:
                state.answer(probe, answer.head_cursor)
        except ServiceError as error:
            logger.debug("a freshness probe failed: %s", error.reason.value)
        except StreamProtocolError as error:
            logger.warning("the response to a freshness probe is malformed: %s", error)
        else:
            return True
        self._counters.probe_failures += 1
        return False

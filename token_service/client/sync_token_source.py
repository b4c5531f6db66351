"""Token source for threads. It follows the rules of `token_source`; `renewal_state` decides when to renew, for both."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

import grpc

from token_service.client._internal.renewal_state import (
    Outcome,
    Pause,
    Reload,
    Renewal,
    RenewalPolicy,
    Save,
    Step,
)
from token_service.client._internal.single_flight import ThreadSingleFlight
from token_service.client._internal.token_store import SharedStore, Tokens, TokenStore
from token_service.errors import ServiceError
from token_service.wire import error_from_rpc

logger: Final = logging.getLogger(__name__)

T = TypeVar("T")


class SyncTokenSource:
    """`TokenSource` for threads. Any number of threads may call `token` concurrently."""

    def __init__(
        self,
        stub: Any,
        *,
        client_id: str,
        store: TokenStore,
        device_id: str = "",
        scopes: Sequence[str] = (),
        audience: Sequence[str] = (),
        policy: RenewalPolicy | None = None,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Configure the source.

        `stub` is a `TokenServiceStub` of a `grpc` channel. `TokenSource` describes the other parameters.
        """
        self._stub = stub
        self._store = SharedStore(store)
        self._state = Renewal(client_id, device_id, scopes, audience, policy, now, elapsed)
        self._renewing: ThreadSingleFlight[str, Tokens] = ThreadSingleFlight()
        self._starting = threading.Lock()
        self._closing = threading.Event()
        self._ahead: threading.Thread | None = None

    def token(self) -> str:
        """Return an access token that does not expire within seconds.

        Raises the `ServiceError` of the renewal if no valid token remains.
        """
        return self.tokens().access_token

    def tokens(self) -> Tokens:
        """Return the access token as `token` does, with its refresh token and times."""
        state = self._state
        if not state.loaded:
            self._load()
        tokens = state.current()
        if tokens is not None:
            return tokens
        tokens = state.usable()
        if tokens is None:
            return self._renewing.do("", self._renew)
        if state.may_try() and not len(self._renewing):
            self._renew_ahead()
        return tokens

    def replace(self, tokens: Tokens) -> None:
        """Replace the current tokens, e.g. after a login."""
        self._state.replace(tokens)
        self._state.replaced(*self._store.overwrite(tokens))

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it.

        Does nothing if another token already replaced it.
        """
        self._state.invalidate(access_token)

    def close(self) -> None:
        """Wait for the renewal in progress, so that no successor is lost."""
        self._closing.set()
        ahead = self._ahead
        if ahead is not None:
            ahead.join()
        self._run(self._state.finishing())

    def _load(self) -> None:
        with self._starting:
            if not self._state.loaded:
                self._state.load(self._store.load())

    def _renew_ahead(self) -> None:
        with self._starting:
            if self._closing.is_set() or (self._ahead is not None and self._ahead.is_alive()):
                return
            self._ahead = threading.Thread(target=self._renew_quietly, name="renew-token", daemon=True)
            self._ahead.start()

    def _renew_quietly(self) -> None:
        try:
            self._renewing.do("", self._renew)
        except ServiceError as error:
            logger.info(
                "the early renewal of the access token failed; a later call of `token` tries again: %s",
                error.reason.value,
            )

    def _renew(self) -> Tokens:
        return self._run(self._state.steps())

    def _run(self, steps: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._perform(step)

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Reload):
            return self._store.reload()
        if isinstance(step, Save):
            return self._store.save(step.tokens, step.instead_of)
        if isinstance(step, Pause):
            return self._closing.wait(step.seconds)
        try:
            answer: Outcome = self._stub.RefreshToken(step, timeout=self._state.policy.attempt_timeout)
        except grpc.RpcError as failure:
            return error_from_rpc(failure)
        return answer

"""Token source for threads. It follows the rules of `token_source`; `renewal_state` decides when to renew, for both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import grpc

from token_service.client._internal.held_tokens import RenewalPolicy
from token_service.client._internal.proving import bind, refresh_order
from token_service.client._internal.renewal_state import (
    Outcome,
    Pause,
    Reload,
    Renewal,
    Save,
    Step,
)
from token_service.client._internal.thread_renewals import ThreadRenewals
from token_service.client._internal.token_store import SharedStore, Tokens, TokenStore
from token_service.client._internal.trace_context import trace_options
from token_service.client.dpop_key import DpopKey
from token_service.errors import SigningUnavailableError
from token_service.wire import error_from_rpc

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
        dpop_key: DpopKey | None = None,
        policy: RenewalPolicy | None = None,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Configure the source.

        `stub` is a `TokenServiceStub` of a `grpc` channel. `TokenSource` describes the other parameters.
        """
        self._stub = stub
        self.dpop_key = dpop_key
        """The key that the tokens are bound to."""
        self._store = SharedStore(store)
        self._state = Renewal(client_id, device_id, scopes, audience, policy, now, elapsed)
        self._renewals = ThreadRenewals(self._state, self._renew)
        self._loading = threading.Lock()

    def token(self) -> str:
        """Return an access token that does not expire within seconds.

        Raises the `ServiceError` of the renewal if no valid token remains.
        """
        return self.tokens().access_token

    def tokens(self) -> Tokens:
        """Return the access token as `token` does, with its refresh token and times."""
        if not self._state.loaded:
            self._load()
        return self._renewals.tokens()

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
        self._renewals.close()
        self._run(self._state.finishing())

    def _load(self) -> None:
        with self._loading:
            if not self._state.loaded:
                self._state.load(self._store.load())

    def _renew(self) -> Tokens:
        with self._store.exclusive(self._state.policy.turn):
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
            return self._renewals.pause(step.seconds)
        try:
            if self.dpop_key is not None:
                bind(step, refresh_order(self.dpop_key).make())
            answer: Outcome = self._stub.RefreshToken(
                step, timeout=self._state.policy.attempt_timeout, **trace_options()
            )
        except grpc.RpcError as failure:
            return error_from_rpc(failure)
        except SigningUnavailableError as failure:  # of the DPoP key
            return failure
        return answer

"""Token source for one event loop: renews access tokens before they expire, in one call for all tasks.

    source = TokenSource(TokenServiceStub(channel), client_id="web", store=store)
    token = await source.token()

A refresh token is used once and then replaced. If a response is lost, the source repeats the call with the
*same* refresh token. The service returns the same successor while the grace window (10 s by default) is open,
so the source repeats quickly. It stores the successor before it uses it.

The source counts the age of a token from its receipt on a clock that does not jump, so a wrong wall clock does
not change the age. Processes may share a store: see `TokenStore`.
"""

from __future__ import annotations

import asyncio
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
from token_service.client._internal.single_flight import SingleFlight
from token_service.client._internal.token_store import SharedStore, Tokens, TokenStore, exclusively
from token_service.client._internal.trace_context import trace_options
from token_service.client.dpop_key import DpopKey
from token_service.errors import SigningUnavailableError
from token_service.wire import error_from_rpc

T = TypeVar("T")


class TokenSource:
    """Token source for one event loop. Any number of tasks may call `token` concurrently."""

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

        `stub` is a `TokenServiceStub` of a `grpc.aio` channel. `scopes` and `audience` narrow the requested
        tokens. `dpop_key` is the key that the tokens are bound to (RFC 9449): each renewal proves it, and
        `TokenAuth` and `TokenCallCredentials` make proofs with it. `now` is the wall clock, for the age of stored
        tokens. `elapsed` returns the seconds of a clock that never jumps, for all other times.
        """
        self._stub = stub
        self.dpop_key = dpop_key
        """The key that the tokens are bound to."""
        self._store = SharedStore(store)
        self._state = Renewal(client_id, device_id, scopes, audience, policy, now, elapsed)
        self._renewing: SingleFlight[str, Tokens] = SingleFlight()
        self._loading: SingleFlight[str, None] = SingleFlight()

    async def token(self) -> str:
        """Return an access token that does not expire within seconds.

        Raises the `ServiceError` of the renewal if no valid token remains.
        """
        return (await self.tokens()).access_token

    async def tokens(self) -> Tokens:
        """Return the access token as `token` does, with its refresh token and times."""
        state = self._state
        if not state.loaded:
            await self._loading.do("", self._load)
        tokens = state.current()
        if tokens is not None:
            return tokens
        tokens = state.usable()
        if tokens is None:
            return await self._renewing.do("", self._renew)
        if state.may_try():
            self._renewing.begin("", self._renew)
        return tokens

    async def replace(self, tokens: Tokens) -> None:
        """Replace the current tokens, e.g. after a login."""
        self._state.replace(tokens)
        self._state.replaced(*await asyncio.to_thread(self._store.overwrite, tokens))

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it.

        Does nothing if another token already replaced it.
        """
        self._state.invalidate(access_token)

    async def close(self) -> None:
        """Wait for the renewal in progress, so that no successor is lost."""
        await self._renewing.drain()
        await self._run(self._state.finishing())

    async def _load(self) -> None:
        self._state.load(await asyncio.to_thread(self._store.load))

    async def _renew(self) -> Tokens:
        async with exclusively(self._store, self._state.policy.turn):
            return await self._run(self._state.steps())

    async def _run(self, steps: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._perform(step)

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Reload):
            return await asyncio.to_thread(self._store.reload)
        if isinstance(step, Save):
            return await asyncio.to_thread(self._store.save, step.tokens, step.instead_of)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return False
        try:
            if self.dpop_key is not None:
                bind(step, await refresh_order(self.dpop_key).make_async())
            answer: Outcome = await self._stub.RefreshToken(
                step, timeout=self._state.policy.attempt_timeout, **trace_options()
            )
        except grpc.RpcError as failure:
            return error_from_rpc(failure)
        except SigningUnavailableError as failure:  # of the DPoP key
            return failure
        return answer

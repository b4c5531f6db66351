"""Access tokens that are always good, for one event loop: renewed ahead of their end, in one call for all tasks.

    source = TokenSource(TokenServiceStub(channel), client_id="web", store=store)
    token = await source.token()

A refresh token is used once and replaced. If an answer was lost, the source repeats the call with the *same*
refresh token. The service answers with the same successor while the grace window (10 s by default) is open,
so the repetitions come quickly, and the successor is stored before it is used.

The age of a token is counted from its receipt by a clock that does not jump, so a wrong wall clock makes no
token older or younger. Processes may share a store: see `TokenStore`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

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
from token_service.client._internal.single_flight import SingleFlight
from token_service.client._internal.token_store import SharedStore, Tokens, TokenStore
from token_service.wire import error_from_rpc

T = TypeVar("T")


class TokenSource:
    """For one event loop. Any number of tasks may call `token` at once."""

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
        """`stub`: a `TokenServiceStub` of a `grpc.aio` channel.

        `scopes` and `audience` narrow what is asked for. `now`: the wall clock, for the age of tokens that
        were stored; `elapsed`: seconds on a clock that never jumps, for everything else.
        """
        self._stub = stub
        self._store = SharedStore(store)
        self._state = Renewal(client_id, device_id, scopes, audience, policy, now, elapsed)
        self._renewing: SingleFlight[str, Tokens] = SingleFlight()
        self._loading: SingleFlight[str, None] = SingleFlight()

    async def token(self) -> str:
        """An access token that is good for a while.

        Raises the `ServiceError` that keeps one from being had.
        """
        return (await self.tokens()).access_token

    async def tokens(self) -> Tokens:
        """As `token`, with everything that is known of it."""
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
        """Go on with these, e.g. after a login."""
        self._state.replace(tokens)
        self._state.replaced(*await asyncio.to_thread(self._store.overwrite, tokens))

    def invalidate(self, access_token: str) -> None:
        """Hand out this access token no more: a server refused it.

        Nothing happens if it was replaced already.
        """
        self._state.invalidate(access_token)

    async def close(self) -> None:
        """Wait for what is under way, so that no successor gets lost."""
        await self._renewing.drain()
        await self._run(self._state.finishing())

    async def _load(self) -> None:
        self._state.load(await asyncio.to_thread(self._store.load))

    async def _renew(self) -> Tokens:
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
            answer: Outcome = await self._stub.RefreshToken(step, timeout=self._state.policy.attempt_timeout)
        except grpc.RpcError as failure:
            return error_from_rpc(failure)
        return answer

"""Token source of a service that acts for itself, for one event loop.

    source = IssuingTokenSource(ClientCredentials(token_url=url, client_id="worker", secret=Secret(secret)))
    token = await source.token()

There is no refresh token and nothing to store: the source asks for a new token before the old one expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from token_service.client._internal.held_tokens import RenewalPolicy
from token_service.client._internal.issuance_state import Delay, Issuance, Outcome
from token_service.client._internal.proving import key_of
from token_service.client._internal.single_flight import SingleFlight
from token_service.client._internal.token_store import Tokens
from token_service.client.dpop_key import DpopKey
from token_service.client.token_issuance import TokenIssuance
from token_service.errors import ServiceError


class IssuingTokenSource:
    """Source of a service's own tokens. Any number of tasks of one event loop may call `token` concurrently."""

    def __init__(
        self,
        issuance: TokenIssuance,
        *,
        policy: RenewalPolicy | None = None,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Configure the source.

        `elapsed` returns the seconds of a clock that never jumps; by default that of the system.
        """
        self._issuance = issuance
        self.dpop_key: DpopKey | None = key_of(issuance)
        """The key that the tokens are bound to; None: they are bearer tokens."""
        self._state = Issuance(policy, elapsed)
        self._renewing: SingleFlight[str, Tokens] = SingleFlight()

    async def token(self) -> str:
        """Return an access token that does not expire within seconds.

        Raises the `ServiceError` of the renewal if no valid token remains.
        """
        return (await self.tokens()).access_token

    async def tokens(self) -> Tokens:
        """Return the access token as `token` does, with its times. The refresh token is empty."""
        state = self._state
        tokens = state.current()
        if tokens is not None:
            return tokens
        tokens = state.usable()
        if tokens is None:
            return await self._renewing.do("", self._renew)
        if state.may_try():
            self._renewing.begin("", self._renew)
        return tokens

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it.

        Does nothing if another token already replaced it.
        """
        self._state.invalidate(access_token)

    async def close(self) -> None:
        """End the renewal in progress. Callers that wait for it get `asyncio.CancelledError`."""
        await self._renewing.close()

    async def _renew(self) -> Tokens:
        steps = self._state.steps()
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                tokens: Tokens = done.value
                return tokens
            if isinstance(step, Delay):
                await asyncio.sleep(step.seconds)
                outcome = False
                continue
            try:
                outcome = await self._issuance.obtain_async(step.timeout)
            except ServiceError as error:
                outcome = error

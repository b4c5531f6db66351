"""Token source of a service that acts for itself, for threads. It follows the rules of `issuing_token_source`."""

from __future__ import annotations

from collections.abc import Callable

from token_service.client._internal.held_tokens import RenewalPolicy
from token_service.client._internal.issuance_state import Delay, Issuance, Outcome
from token_service.client._internal.proving import key_of
from token_service.client._internal.thread_renewals import ThreadRenewals
from token_service.client._internal.token_store import Tokens
from token_service.client.dpop_key import DpopKey
from token_service.client.token_issuance import TokenIssuance
from token_service.errors import ServiceError


class SyncIssuingTokenSource:
    """`IssuingTokenSource` for threads. Any number of threads may call `token` concurrently."""

    def __init__(
        self,
        issuance: TokenIssuance,
        *,
        policy: RenewalPolicy | None = None,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Configure the source. `IssuingTokenSource` describes the parameters."""
        self._issuance = issuance
        self.dpop_key: DpopKey | None = key_of(issuance)
        """The key that the tokens are bound to; None: they are bearer tokens."""
        self._state = Issuance(policy, elapsed)
        self._renewals = ThreadRenewals(self._state, self._renew)

    def token(self) -> str:
        """Return an access token that does not expire within seconds.

        Raises the `ServiceError` of the renewal if no valid token remains.
        """
        return self.tokens().access_token

    def tokens(self) -> Tokens:
        """Return the access token as `token` does, with its times. The refresh token is empty."""
        return self._renewals.tokens()

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it.

        Does nothing if another token already replaced it.
        """
        self._state.invalidate(access_token)

    def close(self) -> None:
        """Wait for the attempt in progress; it is not repeated."""
        self._renewals.close()

    def _renew(self) -> Tokens:
        steps = self._state.steps()
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                tokens: Tokens = done.value
                return tokens
            if isinstance(step, Delay):
                outcome = self._renewals.pause(step.seconds)
                continue
            try:
                outcome = self._issuance.obtain(step.timeout)
            except ServiceError as error:
                outcome = error

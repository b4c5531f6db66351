"""Decisions of the sources that get a token of their own. No I/O: `Issuance.steps` yields steps and receives outcomes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

from token_service.client._internal.held_tokens import HeldTokens
from token_service.client._internal.token_store import Tokens
from token_service.client.token_endpoint import Issued
from token_service.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Obtain:
    """Step: get a token."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Delay:
    """Step: wait. The outcome is True if the source is being closed."""

    seconds: float


Step: TypeAlias = Obtain | Delay
Outcome: TypeAlias = Issued | ServiceError | bool | None


class Issuance(HeldTokens):
    """State and decisions of both issuing sources. Any thread may call any method."""

    _failure: ServiceError | None = None

    def steps(self) -> Generator[Step, Outcome, Tokens]:
        """Obtain a token that needs no renewal yet. Raises the `ServiceError` of the last attempt.

        After a failure it repeats the error for a while without a call, so that a service that refuses its token is not
        asked for each request of its callers.
        """
        tokens = self.current()
        if tokens is not None:
            return tokens
        if self._failure is not None and not self.may_try():
            raise self._failure.with_traceback(None)  # else it would keep the frames of each earlier caller
        began = self._elapsed()
        attempt = 0
        while True:
            asked = self._elapsed()
            outcome = yield Obtain(self.policy.attempt_timeout)
            if isinstance(outcome, Issued):
                with self._lock:
                    self._failure = None
                    # The life of the token began while the call ran; the start of the call is the safe assumption.
                    self._hold(outcome.tokens, outcome.life, outcome.life - (self._elapsed() - asked))
                return outcome.tokens
            assert isinstance(outcome, ServiceError)
            delay = self._delay(outcome, began, attempt)
            if delay is None:
                with self._lock:
                    self._failure = outcome
                    self._wait(outcome)
                raise outcome
            if (yield Delay(delay)):
                raise outcome
            attempt += 1

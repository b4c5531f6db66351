"""The tokens in use by a token source, and when to renew them. No I/O."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from token_service.client._internal.clock import SystemValidatorClock
from token_service.client._internal.token_store import Tokens
from token_service.client.config import Backoff
from token_service.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InternalError,
    KeysStaleError,
    OverloadedError,
    RateLimitedError,
    ReplicaStaleError,
    ServiceError,
    ShuttingDownError,
    SigningUnavailableError,
    StoreUnavailableError,
    StreamEndedError,
    TooManyRetriesError,
    UnreachableError,
)

TRANSIENT: Final = (
    DeadlineExceededError,
    InternalError,
    KeysStaleError,
    OverloadedError,
    RateLimitedError,
    ReplicaStaleError,
    ShuttingDownError,
    SigningUnavailableError,
    StoreUnavailableError,
    StreamEndedError,
    TooManyRetriesError,
    UnreachableError,
)
"""Errors after which a repeated call may succeed."""
_MARGIN: Final = 5.0
"""Seconds before expiry from which a token is not returned, because the request takes time to arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    """When to renew and how long to try, in seconds."""

    ahead: float = 0.25
    """Share of the token's life that is left at renewal, varied by a fifth either way to spread clients."""
    attempt_timeout: float = 2.0
    """Deadline of one call."""
    give_up_after: float = 9.0
    """Time from the first call after which no new call is made, even if the process or machine was stopped.

    Just below the service's default grace window.
    """
    backoff: Backoff = field(default_factory=lambda: Backoff(initial=0.1, longest=1.0))

    @property
    def turn(self) -> float:
        """Longest time in which another process that shares the store renews its tokens."""
        return self.give_up_after + self.attempt_timeout

    def __post_init__(self) -> None:
        if not 0 < self.ahead < 0.8:
            raise ConfigurationError(f"RenewalPolicy.ahead is {self.ahead}; it must be between 0 and 0.8")
        if not 0 < self.attempt_timeout <= 60 or not 0 <= self.give_up_after <= 3600:
            raise ConfigurationError("RenewalPolicy.attempt_timeout and give_up_after must be positive")


@dataclass(frozen=True, slots=True)
class _Held:
    """Tokens with their renewal and expiry times on the clock that does not jump.

    One object, so that no thread combines old tokens with new times.
    """

    tokens: Tokens
    renew_at: float
    usable_until: float


class HeldTokens:
    """The current tokens of a source. Any thread may call any method."""

    def __init__(self, policy: RenewalPolicy | None, elapsed: Callable[[], float] | None) -> None:
        self.policy = policy or RenewalPolicy()
        self._elapsed = elapsed or SystemValidatorClock().elapsed
        self._lock = threading.RLock()
        self._held: _Held | None = None
        self._try_at = 0.0

    def current(self) -> Tokens | None:
        """Return the tokens if they need no renewal yet."""
        held = self._held
        return held.tokens if held is not None and self._elapsed() < held.renew_at else None

    def usable(self) -> Tokens | None:
        """Return the tokens if they are usable, even if renewal is due."""
        held = self._held
        return held.tokens if held is not None and self._elapsed() < held.usable_until else None

    def may_try(self) -> bool:
        """Return whether to renew now, rather than wait after a failure."""
        return self._elapsed() >= self._try_at

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token."""
        with self._lock:
            if self._held is not None and self._held.tokens.access_token == access_token:
                self._held = _Held(self._held.tokens, 0.0, 0.0)

    def _hold(self, tokens: Tokens, life: float, left: float) -> None:
        """Use tokens that live `life` seconds in all and `left` seconds from now."""
        ahead = self.policy.ahead * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load
        end = self._elapsed() + left
        self._held = _Held(tokens, end - max(0.0, life) * ahead, end - min(_MARGIN, max(0.0, life) / 20))
        self._try_at = 0.0

    def _delay(self, error: ServiceError, began: float, attempt: int) -> float | None:
        """Return the seconds until the next attempt, or None if no attempt should follow soon.

        `began` is the time of the first attempt, and `attempt` the number of attempts before this one.
        """
        if not isinstance(error, TRANSIENT):
            return None
        delay = self.policy.backoff.delay(attempt, random.random())  # noqa: S311  # spreads load
        if error.retry_after is not None:
            delay = max(delay, error.retry_after)
        return delay if self._elapsed() - began + delay <= self.policy.give_up_after else None

    def _wait(self, error: ServiceError) -> None:
        """Wait before the next attempt, after one that failed."""
        self._try_at = self._elapsed() + max(self.policy.backoff.longest, error.retry_after or 0.0)

"""Renewal of tokens. No I/O: `Renewal.steps` yields steps and receives their outcomes, so the token sources for
event loops and for threads share the same decisions.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from token_service.client._internal.clock import SystemValidatorClock
from token_service.client._internal.token_store import Tokens, lifetime, remaining
from token_service.client.config import Backoff
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    DeadlineExceededError,
    InternalError,
    KeysStaleError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitedError,
    RefreshTokenInvalidError,
    ReplicaStaleError,
    ServiceError,
    ShuttingDownError,
    SigningUnavailableError,
    StoreUnavailableError,
    StreamEndedError,
    TooManyRetriesError,
    UnreachableError,
)
from token_service.v1.token_service_pb2 import RefreshTokenRequest, RefreshTokenResponse

_TRANSIENT: Final = (
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
_OF_CALLER: Final = (CallerUnauthenticatedError, PermissionDeniedError)
"""Errors about the caller, not about its refresh token: later calls try again. After all other errors the user must
log in again.
"""
_MARGIN: Final = 5.0
"""Seconds before expiry from which a token is not returned, because the request takes time to arrive."""
_REMEMBERED: Final = 64


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

    def __post_init__(self) -> None:
        if not 0 < self.ahead < 0.8:
            raise ConfigurationError(f"RenewalPolicy.ahead is {self.ahead}; it must be between 0 and 0.8")
        if not 0 < self.attempt_timeout <= 60 or not 0 <= self.give_up_after <= 3600:
            raise ConfigurationError("RenewalPolicy.attempt_timeout and give_up_after must be positive")


@dataclass(frozen=True, slots=True)
class Reload:
    """Step: read the store again. The outcome is that of `SharedStore.reload`."""


@dataclass(frozen=True, slots=True)
class Save:
    """Step: save tokens to the store. The outcome is that of `SharedStore.save`."""

    tokens: Tokens
    instead_of: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Step: wait. The outcome is True if the source is being closed."""

    seconds: float


Step: TypeAlias = Reload | RefreshTokenRequest | Save | Pause
"""The outcome of a request: the answer, or the error it failed with."""
Outcome: TypeAlias = Tokens | RefreshTokenResponse | ServiceError | bool | None


@dataclass(frozen=True, slots=True)
class _Held:
    """Tokens with their renewal and expiry times on the clock that does not jump.

    One object, so that no thread combines old tokens with new times.
    """

    tokens: Tokens
    renew_at: float
    usable_until: float


class Renewal:
    """State and decisions of both token sources. Any thread may call any method."""

    def __init__(
        self,
        client_id: str,
        device_id: str,
        scopes: Sequence[str],
        audience: Sequence[str],
        policy: RenewalPolicy | None,
        now: Callable[[], float],
        elapsed: Callable[[], float] | None,
    ) -> None:
        self.policy = policy or RenewalPolicy()
        self.loaded = False
        self._now = now
        self._elapsed = elapsed or SystemValidatorClock().elapsed
        self._request = RefreshTokenRequest(
            client_id=client_id, device_id=device_id, scopes=scopes, audience=audience
        )
        self._lock = threading.RLock()
        self._held: _Held | None = None
        self._left: deque[str] = deque(maxlen=_REMEMBERED)
        """Replaced refresh tokens. A store with one of them is behind."""
        self._unsaved = False
        self._ended: ServiceError | None = None
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
        return self._ended is None and self._elapsed() >= self._try_at

    def load(self, stored: Tokens | None) -> None:
        """Begin with the stored tokens."""
        with self._lock:
            if stored is not None and not self.loaded:
                self._take(stored, remaining(stored, self._now()))
            self.loaded = True

    def replace(self, tokens: Tokens) -> None:
        """Replace the current tokens by tokens that the caller obtained elsewhere."""
        with self._lock:
            self._take(tokens, remaining(tokens, self._now()))
            self.loaded = True

    def replaced(self, saved: bool, stored: Tokens | None) -> None:  # noqa: FBT001  # an outcome
        """Record the outcome of `SharedStore.overwrite`."""
        with self._lock:
            self._unsaved = not saved
            if stored is not None and self._held is not None:
                self._leave(stored.refresh_token, self._held.tokens)

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token."""
        with self._lock:
            if self._held is not None and self._held.tokens.access_token == access_token:
                self._held = _Held(self._held.tokens, 0.0, 0.0)

    def steps(self) -> Generator[Step, Outcome, Tokens]:
        """Obtain tokens that need no renewal yet. Raises the `ServiceError` of the renewal."""
        began: float | None = None
        attempt = 0
        failure: ServiceError | None = None
        while True:
            # Read the store before every call: if another process has renewed, only its refresh token is valid.
            stored = yield Reload()
            if isinstance(stored, Tokens):
                self._adopt(stored)
            tokens = self.current()
            if tokens is not None:
                return tokens
            now = self._elapsed()
            began = now if began is None else began
            if failure is not None and now - began > self.policy.give_up_after:
                raise failure
            request = self._next_request()
            outcome = yield request
            if isinstance(outcome, ServiceError):
                failure = outcome
                pause = self._fail(request.refresh_token, failure, began, attempt)
                attempt += 1
                if (yield Pause(pause)):
                    raise failure
            elif self._receive(request.refresh_token, cast("RefreshTokenResponse", outcome)):
                yield from self.saving()
                return self._tokens()

    def saving(self) -> Generator[Step, Outcome, None]:
        """Save the current tokens."""
        with self._lock:
            tokens = self._tokens()
            step = Save(tokens, frozenset(self._left) | {tokens.refresh_token})
        outcome = yield step
        with self._lock:
            self._unsaved = outcome is False
            if isinstance(outcome, Tokens):
                self._adopt(outcome)

    def finishing(self) -> Generator[Step, Outcome, None]:
        """Save tokens whose earlier save failed."""
        if self._unsaved:
            yield from self.saving()

    def _tokens(self) -> Tokens:
        assert self._held is not None
        return self._held.tokens

    def _next_request(self) -> RefreshTokenRequest:
        with self._lock:
            if self._ended is not None:
                raise self._ended
            if self._held is None or not self._held.tokens.refresh_token:
                raise RefreshTokenInvalidError(
                    "the token source has no refresh token; give it tokens from a login"
                )
            request = RefreshTokenRequest(refresh_token=self._held.tokens.refresh_token)
        request.MergeFrom(self._request)
        return request

    def _receive(self, used: str, answer: RefreshTokenResponse) -> bool:
        """Accept a response, unless its refresh token was replaced in the meantime."""
        with self._lock:
            if self._tokens().refresh_token != used:
                return False
            now = self._now()
            tokens = Tokens.of(answer, now)
            life = lifetime(tokens)
            self._take(tokens, tokens.access_expire_time - now if life is None else life)
            return True

    def _fail(self, used: str, error: ServiceError, began: float, attempt: int) -> float:
        """Return the seconds until the next call. Raises the error if no call should follow."""
        with self._lock:
            if self._tokens().refresh_token != used:
                return 0.0  # the error is about replaced tokens
            if not isinstance(error, _TRANSIENT):
                if isinstance(error, _OF_CALLER):
                    self._try_at = self._elapsed() + self.policy.backoff.longest
                else:
                    self._ended = error
                raise error
            delay = self.policy.backoff.delay(attempt, random.random())  # noqa: S311  # spreads load
            if error.retry_after is not None:
                delay = max(delay, error.retry_after)
            now = self._elapsed()
            if now - began + delay > self.policy.give_up_after:
                self._try_at = now + self.policy.backoff.longest
                raise error
            return delay

    def _adopt(self, stored: Tokens) -> None:
        """Adopt tokens that another process has stored."""
        with self._lock:
            if self._held is not None:
                held = self._held.tokens
                if stored.refresh_token in self._left:
                    return
                if stored.refresh_token == held.refresh_token and (
                    stored.access_token == held.access_token
                    or stored.access_expire_time <= held.access_expire_time
                ):
                    return
            self._take(stored, remaining(stored, self._now()))
            self._unsaved = False

    def _take(self, tokens: Tokens, left: float) -> None:
        now = self._elapsed()
        life = lifetime(tokens)
        if life is None:
            life = left
        ahead = self.policy.ahead * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load
        end = now + left
        before, self._held = (
            self._held,
            _Held(tokens, end - max(0.0, life) * ahead, end - min(_MARGIN, max(0.0, life) / 20)),
        )
        if before is not None:
            self._leave(before.tokens.refresh_token, tokens)
        self._try_at = 0.0
        self._ended = None

    def _leave(self, refresh_token: str, successor: Tokens) -> None:
        if refresh_token != successor.refresh_token and refresh_token not in self._left:
            self._left.append(refresh_token)

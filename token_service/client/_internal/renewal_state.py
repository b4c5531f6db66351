"""Renewal of tokens. No I/O: `Renewal.steps` yields steps and receives their outcomes, so the token sources for
event loops and for threads share the same decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from token_service.client._internal.held_tokens import TRANSIENT, HeldTokens, RenewalPolicy
from token_service.client._internal.token_store import Tokens, lifetime, remaining
from token_service.errors import (
    BindingRequiredError,
    CallerUnauthenticatedError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    RefreshTokenInvalidError,
    ServiceError,
    WrongKeyError,
)
from token_service.v1.token_service_pb2 import RefreshTokenRequest, RefreshTokenResponse

_OF_CALLER: Final = (
    BindingRequiredError,
    CallerUnauthenticatedError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    WrongKeyError,
)
"""Errors about the caller or its key, not about its refresh token: later calls try again. After all other errors the user must
log in again.
"""
_REMEMBERED: Final = 64


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


class Renewal(HeldTokens):
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
        super().__init__(policy, elapsed)
        self.loaded = False
        self._now = now
        self._request = RefreshTokenRequest(
            client_id=client_id, device_id=device_id, scopes=scopes, audience=audience
        )
        self._left: deque[str] = deque(maxlen=_REMEMBERED)
        """Replaced refresh tokens. A store with one of them is behind."""
        self._unsaved = False
        self._ended: ServiceError | None = None

    def may_try(self) -> bool:
        """Return whether to renew now, rather than wait after a failure."""
        return self._ended is None and super().may_try()

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
                raise self._ended.with_traceback(None)  # else it would keep the frames of each earlier caller
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
            delay = self._delay(error, began, attempt)
            if delay is None:
                if isinstance(error, (*TRANSIENT, *_OF_CALLER)):
                    self._wait(error)
                else:
                    self._ended = error
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
        life = lifetime(tokens)
        before = self._held
        self._hold(tokens, left if life is None else life, left)
        if before is not None:
            self._leave(before.tokens.refresh_token, tokens)
        self._ended = None

    def _leave(self, refresh_token: str, successor: Tokens) -> None:
        if refresh_token != successor.refresh_token and refresh_token not in self._left:
            self._left.append(refresh_token)

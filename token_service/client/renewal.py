"""Access tokens that are always good: renewed ahead of their end, once however many ask, and kept where the
caller says.

    source = TokenSource(TokenServiceStub(channel), client_id="web", store=store)
    token = await source.token()

A refresh token is used once and replaced. An answer that got lost is asked for again with the *same* refresh
token, for which the service gives the very same successor as long as its grace window (10 s by default) is
open; so the repetitions come quickly and the successor is stored before anything else is done with it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc

from token_service.client.config import Backoff
from token_service.client.single_flight import SingleFlight, ThreadSingleFlight
from token_service.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InternalError,
    KeysStaleError,
    OverloadedError,
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
from token_service.v1.token_service_pb2 import IssueTokenResponse, RefreshTokenRequest, RefreshTokenResponse
from token_service.wire import error_from_rpc

logger = logging.getLogger(__name__)

_TRANSIENT: Final = (
    DeadlineExceededError,
    InternalError,
    KeysStaleError,
    OverloadedError,
    ReplicaStaleError,
    ShuttingDownError,
    SigningUnavailableError,
    StoreUnavailableError,
    StreamEndedError,
    TooManyRetriesError,
    UnreachableError,
)
"""After these another try may help; after any other the user must log in again."""
_MARGIN: Final = 5.0
"""Seconds before its end from which on a token is not handed out: the request still has to travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """An access token and the refresh token that gets the next one.

    Times are seconds since the Unix epoch.
    """

    access_token: str = field(repr=False)
    access_expire_time: float
    refresh_token: str = field(repr=False)
    token_type: str = "Bearer"
    scopes: tuple[str, ...] = ()

    @classmethod
    def of(cls, response: IssueTokenResponse | RefreshTokenResponse) -> Tokens:
        """The tokens of an answer."""
        expiry = response.access_token_expire_time
        return cls(
            access_token=response.access_token,
            access_expire_time=expiry.seconds + expiry.nanos / 1e9,
            refresh_token=response.refresh_token,
            token_type=response.token_type or "Bearer",
            scopes=tuple(response.scopes),
        )


class TokenStore(Protocol):
    """Where tokens survive the process. May block, and is never called by two threads at once."""

    def load(self) -> Tokens | None:
        """What was saved last; None if there is nothing."""
        ...

    def save(self, tokens: Tokens) -> None:
        """Keep these instead. Returns once they are safe; raises `OSError` if they are not."""
        ...


class MemoryTokenStore:
    """Keeps tokens as long as the process lives."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def load(self) -> Tokens | None:
        """What was saved last."""
        return self._tokens

    def save(self, tokens: Tokens) -> None:
        """Keep these instead."""
        self._tokens = tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    """When to renew and how long to try. Seconds."""

    ahead: float = 0.25
    """Renew when this share of the token's life is left; varied by a fifth either way, so that many clients
    spread.
    """
    attempt_timeout: float = 2.0
    """Deadline of one call."""
    give_up_after: float = 9.0
    """From the first call on, no new one is made after this. Just below the service's default grace window.
    """
    backoff: Backoff = field(default_factory=lambda: Backoff(initial=0.1, longest=1.0))

    def __post_init__(self) -> None:
        if not 0 < self.ahead < 0.8:
            raise ConfigurationError(f"RenewalPolicy.ahead is {self.ahead}; it must be between 0 and 0.8")
        if not 0 < self.attempt_timeout <= 60 or not 0 <= self.give_up_after <= 3600:
            raise ConfigurationError("RenewalPolicy.attempt_timeout and give_up_after must be positive")


class _Renewal:
    """What both sources know and decide. No I/O."""

    def __init__(
        self,
        client_id: str,
        device_id: str,
        scopes: Sequence[str],
        audience: Sequence[str],
        policy: RenewalPolicy,
        now: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.now = now
        self.tokens: Tokens | None = None
        self.loaded = False
        self.unsaved = False
        self.ended: ServiceError | None = None
        self._request = RefreshTokenRequest(
            client_id=client_id, device_id=device_id, scopes=scopes, audience=audience
        )
        self._renew_at = 0.0
        self._usable_until = 0.0
        self._try_at = 0.0

    def take(self, tokens: Tokens) -> None:
        """Use these from now on."""
        now = self.now()
        life = max(0.0, tokens.access_expire_time - now)
        ahead = self.policy.ahead * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load
        self._renew_at = now + life * (1 - ahead)
        self._usable_until = tokens.access_expire_time - min(_MARGIN, life / 20)
        self._try_at = 0.0
        self.ended = None
        self.tokens = tokens

    def request(self) -> RefreshTokenRequest:
        """The call that gets the next tokens.

        Raises `RefreshTokenInvalidError` if there is no refresh token.
        """
        if self.ended is not None:
            raise self.ended
        if self.tokens is None or not self.tokens.refresh_token:
            raise RefreshTokenInvalidError("there is no refresh token to begin with")
        request = RefreshTokenRequest()
        request.CopyFrom(self._request)
        request.refresh_token = self.tokens.refresh_token
        return request

    def current(self) -> Tokens | None:
        """Tokens that need nothing now."""
        tokens = self.tokens
        return tokens if tokens is not None and self.now() < self._renew_at else None

    def usable(self) -> Tokens | None:
        """Tokens that can be used, though they should be renewed."""
        tokens = self.tokens
        return tokens if tokens is not None and self.now() < self._usable_until else None

    def may_try(self) -> bool:
        """Whether to renew ahead now, or to wait after a failure."""
        return self.ended is None and self.now() >= self._try_at

    def invalidate(self, access_token: str) -> None:
        """Hand out this access token no more."""
        if self.tokens is not None and self.tokens.access_token == access_token:
            self._renew_at = self._usable_until = 0.0

    def pause(self, error: ServiceError, began: float, attempt: int, elapsed: float) -> float | None:
        """After a failed call: seconds until the next one; None if there should be none."""
        if not isinstance(error, _TRANSIENT):
            self.ended = error
            return None
        delay = self.policy.backoff.delay(attempt, random.random())  # noqa: S311  # spreads load
        if error.retry_after is not None:
            delay = max(delay, error.retry_after)
        if elapsed - began + delay > self.policy.give_up_after:
            self._try_at = self.now() + self.policy.backoff.longest
            return None
        return delay


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
    ) -> None:
        """`stub`: a `TokenServiceStub` of a `grpc.aio` channel.

        `scopes` and `audience` narrow what is asked for.
        """
        self._stub = stub
        self._store = store
        self._state = _Renewal(client_id, device_id, scopes, audience, policy or RenewalPolicy(), now)
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
        self._state.take(tokens)
        self._state.loaded = True
        await self._save(tokens)

    def invalidate(self, access_token: str) -> None:
        """Hand out this access token no more: somebody refused it.

        Nothing happens if it was replaced already.
        """
        self._state.invalidate(access_token)

    async def close(self) -> None:
        """Wait for what is under way, so that no successor gets lost."""
        await self._renewing.drain()
        if self._state.unsaved and self._state.tokens is not None:
            await self._save(self._state.tokens)

    async def _load(self) -> None:
        tokens = await asyncio.to_thread(self._store.load)
        if tokens is not None and not self._state.loaded:
            self._state.take(tokens)
        self._state.loaded = True

    async def _save(self, tokens: Tokens) -> None:
        self._state.unsaved = not await asyncio.to_thread(_save, self._store, tokens)

    async def _renew(self) -> Tokens:
        state = self._state
        request = state.request()
        began = time.monotonic()
        attempt = 0
        while True:
            try:
                answer = await self._stub.RefreshToken(request, timeout=state.policy.attempt_timeout)
            except grpc.RpcError as failure:
                error = error_from_rpc(failure)
                pause = state.pause(error, began, attempt, time.monotonic())
                if pause is None:
                    raise error from None
                attempt += 1
                await asyncio.sleep(pause)
            else:
                tokens = Tokens.of(answer)
                state.take(tokens)
                await self._save(tokens)
                return tokens


class SyncTokenSource:
    """`TokenSource` for threads. Any number of them may call `token` at once."""

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
    ) -> None:
        """`stub`: a `TokenServiceStub` of a `grpc` channel.

        `scopes` and `audience` narrow what is asked for.
        """
        self._stub = stub
        self._store = store
        self._state = _Renewal(client_id, device_id, scopes, audience, policy or RenewalPolicy(), now)
        self._renewing: ThreadSingleFlight[str, Tokens] = ThreadSingleFlight()
        self._storing = threading.Lock()
        self._closing = threading.Event()
        self._ahead: threading.Thread | None = None

    def token(self) -> str:
        """An access token that is good for a while.

        Raises the `ServiceError` that keeps one from being had.
        """
        return self.tokens().access_token

    def tokens(self) -> Tokens:
        """As `token`, with everything that is known of it."""
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
        """Go on with these, e.g. after a login."""
        self._state.take(tokens)
        self._state.loaded = True
        self._save(tokens)

    def invalidate(self, access_token: str) -> None:
        """Hand out this access token no more: somebody refused it.

        Nothing happens if it was replaced already.
        """
        self._state.invalidate(access_token)

    def close(self) -> None:
        """Wait for what is under way, so that no successor gets lost."""
        self._closing.set()
        ahead = self._ahead
        if ahead is not None:
            ahead.join()
        if self._state.unsaved and self._state.tokens is not None:
            self._save(self._state.tokens)

    def _load(self) -> None:
        with self._storing:
            if not self._state.loaded:
                tokens = self._store.load()
                if tokens is not None:
                    self._state.take(tokens)
                self._state.loaded = True

    def _save(self, tokens: Tokens) -> None:
        with self._storing:
            self._state.unsaved = not _save(self._store, tokens)

    def _renew_ahead(self) -> None:
        with self._storing:
            if self._closing.is_set() or (self._ahead is not None and self._ahead.is_alive()):
                return
            self._ahead = threading.Thread(target=self._renew_quietly, name="renew-token", daemon=True)
            self._ahead.start()

    def _renew_quietly(self) -> None:
        try:
            self._renewing.do("", self._renew)
        except ServiceError as error:
            logger.info("a token could not be renewed ahead of its end: %s", error.reason.value)

    def _renew(self) -> Tokens:
        state = self._state
        request = state.request()
        began = time.monotonic()
        attempt = 0
        while True:
            try:
                answer = self._stub.RefreshToken(request, timeout=state.policy.attempt_timeout)
            except grpc.RpcError as failure:
                error = error_from_rpc(failure)
                pause = state.pause(error, began, attempt, time.monotonic())
                if pause is None or self._closing.wait(pause):
                    raise error from None
                attempt += 1
            else:
                tokens = Tokens.of(answer)
                state.take(tokens)
                self._save(tokens)
                return tokens


def _save(store: TokenStore, tokens: Tokens) -> bool:
    try:
        store.save(tokens)
    except OSError as error:
        # The tokens in memory are good; they are saved with the next ones, or at the end.
        logger.error("renewed tokens could not be stored: %s", error)  # noqa: TRY400  # no trace needed
        return False
    return True

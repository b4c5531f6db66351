"""The asynchronous and the threaded token source behind one interface, so that one test covers both."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

import grpc

from tests.support.fake_token_service import FakeTokenService
from token_service.client import MemoryTokenStore, RenewalPolicy, SyncTokenSource, Tokens, TokenSource
from token_service.client._internal.clock import SystemValidatorClock
from token_service.client.config import Backoff
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

PATIENT = RenewalPolicy(
    attempt_timeout=60.0, give_up_after=100.0, backoff=Backoff(initial=0.01, longest=0.05)
)
"""For renewals that succeed in the end: a busy machine makes no attempt end early and none repeat."""
IMPATIENT = RenewalPolicy(attempt_timeout=1.0, give_up_after=2.0, backoff=Backoff(initial=0.01, longest=0.05))


class Store(MemoryTokenStore):
    """A store that counts and that a test can break."""

    def __init__(self, tokens: Tokens | None) -> None:
        super().__init__(tokens)
        self.broken = False
        self.saves = 0

    def save(self, tokens: Tokens) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.saves += 1
        super().save(tokens)


class AnySource:
    """A token source. `kind` is one of `KINDS`; the other arguments are those of the sources.

    `passed`: seconds added to the clock that does not jump. `wall`: seconds by which the wall clock is wrong.
    """

    def __init__(self, kind: str, service: FakeTokenService, store: Any, **options: Any) -> None:
        self.store = store
        self.passed = 0.0
        self.wall = 0.0
        self._channel: Any
        elapsed = SystemValidatorClock().elapsed
        known: dict[str, Any] = {
            "client_id": "web",
            "store": self.store,
            "policy": PATIENT,
            "now": lambda: time.time() + self.passed + self.wall,
            "elapsed": lambda: elapsed() + self.passed,
            **options,
        }
        self.real: TokenSource | SyncTokenSource
        if kind == "async":
            self._channel = grpc.aio.insecure_channel(service.address)
            self.real = TokenSource(TokenServiceStub(self._channel), **known)
        else:
            self._channel = grpc.insecure_channel(service.address)
            self.real = SyncTokenSource(TokenServiceStub(self._channel), **known)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")
        if isinstance(self.real, TokenSource):
            await self._channel.close()
        else:
            self._channel.close()

    async def do(self, name: str, *args: Any) -> Any:
        method = getattr(self.real, name)
        if isinstance(self.real, TokenSource):
            return await method(*args)
        return await asyncio.to_thread(method, *args)

    async def token(self) -> str:
        return str(await self.do("token"))

    def invalidate(self, token: str) -> None:
        self.real.invalidate(token)


def tokens_of(service: FakeTokenService, life: float = 900.0, refresh: str = "refresh-0") -> Tokens:
    """Return tokens issued now."""
    now = time.time()
    return Tokens(access_token=service.mint.token(now), access_expire_time=now + life, refresh_token=refresh)

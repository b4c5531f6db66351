"""The asynchronous and the threaded validator behind one interface, so that one test covers both."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

from token_service.client._internal.clock import ValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.explanation import Explanation
from token_service.client._internal.status import ValidatorStatus
from token_service.client.config import ValidatorConfig
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.tokens.claims import VerifiedClaims

KINDS = ("async", "sync")


class AnyValidator:
    """A validator. `kind` is one of `KINDS`; the other arguments are those of the validators."""

    def __init__(self, kind: str, config: ValidatorConfig, clock: ValidatorClock | None = None) -> None:
        self.real: TokenValidator | SyncTokenValidator
        self.real = (TokenValidator if kind == "async" else SyncTokenValidator)(config, clock=clock)

    async def __aenter__(self) -> Self:
        await self._do("start")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._do("close")

    async def close(self) -> None:
        await self._do("close")

    async def wait_ready(self, timeout: float = 60.0, **options: bool) -> bool:
        return bool(await self._do("wait_ready", timeout, **options))

    def status(self) -> ValidatorStatus:
        return self.real.status()

    async def validate(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims:
        claims = await self._do("validate", token, audience=audience, required_scopes=required_scopes)
        assert isinstance(claims, VerifiedClaims)
        return claims

    def explain(self, token: str, **options: Any) -> Explanation:
        return self.real.explain(token, **options)

    @property
    def counters(self) -> Counters:
        return self.real.counters

    @property
    def is_fresh(self) -> bool:
        return self.real.is_fresh

    async def _do(self, name: str, *args: Any, **options: Any) -> Any:
        method = getattr(self.real, name)
        if isinstance(self.real, TokenValidator):
            return await method(*args, **options)
        return await asyncio.to_thread(method, *args, **options)

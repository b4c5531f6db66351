"""BatchValidateTokens: judge several tokens that came together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.limits import MAX_BATCH
from token_service.core.validation.introspector import Introspection, Introspector, TokenQuery
from token_service.errors import InvalidRequestError

_PAUSE_EVERY: Final = 32
"""Tokens between two pauses, each of which lets other calls go on."""


async def validate_batch(
    introspector: Introspector,
    clock: Clock,
    caller: Caller,
    count: int,
    queries: Iterable[TokenQuery],
    *,
    strong: bool,
) -> AsyncIterator[Introspection]:
    """Judge `count` tokens in their order. `strong`: after every revocation acknowledged before the call.

    `queries` is read only if the count is allowed. All of them share one time at which they were asked, so
    that many unknown keys cost one look for newer keys. Raises `PermissionDeniedError`, `InvalidRequestError`
    and what `Introspector.validate` raises.
    """
    admit(caller, UseCase.BATCH_VALIDATE_TOKENS)
    if not 1 <= count <= MAX_BATCH:
        raise InvalidRequestError.of("requests", f"has not 1 to {MAX_BATCH} items")
    asked = clock.monotonic()
    asks = list(queries)
    if strong:
        await introspector.catch_up()
    for number, query in enumerate(asks):
        if number % _PAUSE_EVERY == _PAUSE_EVERY - 1:
            await asyncio.sleep(0)
        yield await introspector.validate(query, clock.now(), asked=asked)

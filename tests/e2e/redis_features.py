"""Everything that a node does in Redis, in a few calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from token_service.core.policies.rates import Rate
from token_service.core.revocation.log import LogHead
from token_service.redis_clients import RedisAccess
from token_service.stores.redis.counters import RedisCounters
from token_service.stores.redis.mirror import RedisMirror
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

FAR = 4_000_000_000


def entry(sequence: int, *, of_token: bool) -> Revocation:
    """Return an entry that does not expire during the test."""
    return Revocation(
        sequence,
        RevocationTarget.TOKEN_ID if of_token else RevocationTarget.SUBJECT,
        f"name-{sequence}",
        revoke_time=1_700_000_000,
        expire_time=FAR,
        reason=RevocationReason(1),
        token_expire_time=FAR if of_token else None,
    )


async def use_everything(access: RedisAccess, epoch: str) -> None:
    """Fill, renew and follow the copy and count rates as a node does.

    Raises `StoreUnavailableError` if one of them fails.
    """

    async def pages() -> AsyncIterator[Sequence[Revocation]]:
        yield [entry(1, of_token=True), entry(2, of_token=False)]

    async with RedisMirror(access) as mirror, RedisCounters(access) as counters:
        await mirror.rebuild(LogHead(f"{epoch}-before", 2, 0, 0), pages())
        await mirror.rebuild(LogHead(epoch, 2, 0, 0), pages())
        heard = mirror.listen()
        first = asyncio.ensure_future(anext(heard))
        number = 2
        while not first.done():
            number += 1
            # Out of order, so that the entry ahead is kept until the gap is closed.
            await mirror.publish(epoch, [entry(number + 1, of_token=True)])
            await mirror.publish(epoch, [entry(number, of_token=False)])
            number += 1
            await asyncio.wait([first], timeout=0.05)
        assert first.result()[0] == epoch
        await heard.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert await mirror.position(epoch) == number
        await counters.ping()
        assert await counters.take(epoch, "key", Rate(1, 60)) == 0
        assert await counters.take(epoch, "key", Rate(1, 60)) > 0

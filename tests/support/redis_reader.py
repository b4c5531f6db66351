"""A gateway that reads the revocations in Redis by docs/redis-layout.md."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


async def redis_refuses(redis: Redis | RedisCluster, token: str) -> bool:
    """Return whether a token is revoked by the copy in Redis. The client decodes replies."""
    kid, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    kid = kid["kid"]
    epoch = await redis.get("token_service:epoch")
    assert isinstance(epoch, str), "Redis has no copy"
    prefix = f"token_service:{{{epoch}}}"
    by_id = await redis.sismember(f"{prefix}:jti:{claims['exp'] // 64}", claims["jti"])
    by_name = await redis.exists(
        f"{prefix}:jti:0:{claims['jti']}", f"{prefix}:sid:{claims['sid']}", f"{prefix}:kid:{kid}"
    )
    states: list[Any] = await redis.mget(
        f"{prefix}:sub:{claims['sub']}", f"{prefix}:client:{claims['client_id']}", f"{prefix}:everything"
    )
    assert await redis.get(f"{prefix}:head") is not None, "the copy is incomplete"
    return bool(
        by_id
        or by_name
        or any(claims["rev"] < int(state.partition(":")[0]) for state in states if state is not None)
    )

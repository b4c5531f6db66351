"""Sessions in Redis: one server, Sentinel or Cluster. Losing the data of Redis ends all sessions.

Keys, all in one slot of a cluster (`{...}` is a hash tag):

    {PREFIX}:s:KEY        hash   a session, its version and its lease
    {PREFIX}:sub:DIGEST   zset   the sessions of a subject by expire time
    {PREFIX}:sid:DIGEST   zset   the sessions of a provider session by expire time
    {PREFIX}:used:NAME    string a name that was used once
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from token_service.bff.store import Logout, StoredSession
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.redis_clients import RedisAccess, RedisClients, RedisTls, cause_of

_RETRY_AFTER: Final = 1.0
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_FIELDS: Final = "'subject', 'sid', 'payload', 'expire', 'idle', 'version'"

# KEYS are the keys that a script needs. A cluster that is moving the slot to another node runs a script only where all
# of them are, and asks the client to try again if they are in two places. The indexes of a session that is dropped are
# made from the prefix, in the same slot.
_PREFIX_OF_KEYS: Final = "local p = string.match(KEYS[1], '^%b{}')\n"
_DROP: Final = (
    _PREFIX_OF_KEYS
    + """
local function drop(key)
  local found = redis.call('HMGET', p .. ':s:' .. key, 'subject', 'sid')
  if not found[1] then return 0 end
  redis.call('ZREM', p .. ':sub:' .. found[1], key)
  if found[2] ~= '' then redis.call('ZREM', p .. ':sid:' .. found[2], key) end
  return redis.call('DEL', p .. ':s:' .. key)
end
"""
)
_LIVE: Final = """
local function live(key, now)
  local found = redis.call('HMGET', p .. ':s:' .. key, 'expire', 'idle')
  return found[1] and tonumber(found[1]) > now and tonumber(found[2]) > now
end
local function keep_until_idle(key, now)
  local found = redis.call('HMGET', p .. ':s:' .. key, 'expire', 'idle')
  local left = math.min(tonumber(found[1]), tonumber(found[2])) - now
  redis.call('PEXPIRE', p .. ':s:' .. key, math.max(1, math.ceil(left * 1000)))
end
"""
_CREATE: Final = (
    _DROP
    + _LIVE
    + """
local key, subject, sid, payload, expire, idle, version = unpack(ARGV, 1, 7)
local now, keep = tonumber(ARGV[8]), tonumber(ARGV[9])
redis.call('HSET', KEYS[1], 'subject', subject, 'sid', sid, 'payload', payload,
  'expire', expire, 'idle', idle, 'version', version, 'holder', '', 'until', '0')
keep_until_idle(key, now)
local left = math.max(1, math.ceil((tonumber(expire) - now) * 1000))
local indexes = {KEYS[2], KEYS[3]}
for _, index in ipairs(indexes) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', ARGV[8])
  redis.call('ZADD', index, expire, key)
  if redis.call('PTTL', index) < left then redis.call('PEXPIRE', index, left) end
end
if keep >= 0 then
  local kept = 0
  for _, other in ipairs(redis.call('ZREVRANGE', indexes[1], 0, -1)) do
    if not live(other, now) then
      if drop(other) == 0 then redis.call('ZREM', indexes[1], other) end
    elseif kept < keep then kept = kept + 1
    else drop(other) end
  end
end
return 1
"""
)
_TOUCH: Final = """
local session = KEYS[1]
local found = redis.call('HMGET', session, 'idle', 'expire')
if not found[1] or tonumber(found[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', session, 'idle', ARGV[2])
local further = math.min(tonumber(ARGV[2]), tonumber(found[2])) - math.min(tonumber(found[1]), tonumber(found[2]))
redis.call('PEXPIRE', session, redis.call('PTTL', session) + math.ceil(further * 1000))
return 1
"""
_LEASE: Final = (
    _PREFIX_OF_KEYS
    + _LIVE
    + f"""
local session, now = KEYS[1], tonumber(ARGV[3])
if not live(ARGV[1], now) then return false end
local lease = redis.call('HMGET', session, 'holder', 'until')
if lease[1] ~= ARGV[2] and tonumber(lease[2]) > now then return false end
redis.call('HSET', session, 'holder', ARGV[2], 'until', ARGV[4])
return redis.call('HMGET', session, {_FIELDS})
"""
)
_RELEASE: Final = """
local session = KEYS[1]
if redis.call('HGET', session, 'holder') ~= ARGV[2] then return 0 end
return redis.call('HSET', session, 'holder', '', 'until', '0')
"""
_REPLACE: Final = """
local session = KEYS[1]
if redis.call('HGET', session, 'version') ~= ARGV[2] then return 0 end
redis.call('HSET', session, 'payload', ARGV[3])
redis.call('HINCRBY', session, 'version', 1)
return 1
"""
_DELETE: Final = (
    _DROP
    + """
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'version') ~= ARGV[2] then return 0 end
return drop(ARGV[1])
"""
)
_LOG_OUT: Final = (
    _DROP
    + """
local left, subject = unpack(ARGV)
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', left) then return -1 end
local dropped = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local found = redis.call('HGET', p .. ':s:' .. key, 'subject')
  if found and (subject == '' or found == subject) then dropped = dropped + drop(key) end
end
return dropped
"""
)


class RedisSessionStore:
    """A `SessionStore` in Redis 6.2 or newer. The caller owns the client; `opened` makes one."""

    def __init__(self, client: Redis | RedisCluster, *, prefix: str = "bff", timeout: float = 3.0) -> None:
        """`prefix`: of all keys; applications that share a server need different ones. `timeout`: seconds for a call."""
        if not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(
                "the prefix of a session store must have letters, digits and _ . : - only"
            )
        self._client = client
        self._prefix = f"{{{prefix}}}"
        self._timeout = timeout
        self._scripts = {
            text: client.register_script(text)
            for text in (_CREATE, _TOUCH, _LEASE, _RELEASE, _REPLACE, _DELETE, _LOG_OUT)
        }

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        url: str,
        *,
        prefix: str = "bff",
        timeout: float = 3.0,
        password: str | None = None,
        tls: RedisTls | None = None,
    ) -> AsyncIterator[Self]:
        """Yield a store at a URL of one server, of sentinels (`redis+sentinel://host:26379,…/master`) or of a cluster
        (`redis+cluster://host:6379,…`), each with `rediss` for TLS, and close its connections.

        `password`: of the URL's user. `tls`: the files for TLS. Raises `ConfigurationError`.
        """
        clients = RedisClients(RedisAccess.of(url, password, tls))
        try:
            client = clients.at(f"{{{prefix}}}")
            yield cls(client, prefix=prefix, timeout=timeout)
        finally:
            await clients.aclose()

    async def create(self, session: StoredSession, now: float, keep: int | None) -> None:
        """See `SessionStore.create`."""
        keys = [self._session(session.key), self._subject(session.subject)]
        await self._run(
            _CREATE,
            [*keys, self._sid(session.sid)] if session.sid else keys,
            session.key,
            session.subject,
            session.sid,
            session.payload,
            repr(session.expire_time),
            repr(session.idle_expire_time),
            session.version,
            repr(now),
            -1 if keep is None else keep,
        )

    async def load(self, key: str, now: float) -> StoredSession | None:
        """See `SessionStore.load`."""
        names = ["subject", "sid", "payload", "expire", "idle", "version"]
        session = _session(key, await self._within_time(self._client.hmget(self._session(key), names)))
        if session is None or session.expire_time <= now or session.idle_expire_time <= now:
            return None
        return session

    async def touch(self, key: str, idle_expire_time: float) -> None:
        """See `SessionStore.touch`."""
        await self._run(_TOUCH, [self._session(key)], key, repr(idle_expire_time))

    async def lease(self, key: str, holder: str, now: float, until: float) -> StoredSession | None:
        """See `SessionStore.lease`."""
        found = await self._run(_LEASE, [self._session(key)], key, holder, repr(now), repr(until))
        return None if found is None else _session(key, found)

    async def release(self, key: str, holder: str) -> None:
        """See `SessionStore.release`."""
        await self._run(_RELEASE, [self._session(key)], key, holder)

    async def replace(self, key: str, version: int, payload: str) -> bool:
        """See `SessionStore.replace`."""
        return bool(await self._run(_REPLACE, [self._session(key)], key, version, payload))

    async def delete(self, key: str, version: int | None = None) -> bool:
        """See `SessionStore.delete`."""
        return bool(await self._run(_DELETE, [self._session(key)], key, "" if version is None else version))

    async def log_out(self, logout: Logout, now: float) -> int | None:
        """See `SessionStore.log_out`."""
        left = _milliseconds(logout.expire_time - now)
        index = self._sid(logout.sid) if logout.sid else self._subject(logout.subject)
        count = int(await self._run(_LOG_OUT, [self._used(logout.token_id), index], left, logout.subject))
        return None if count < 0 else count

    async def use_once(self, name: str, expire_time: float, now: float) -> bool:
        """See `SessionStore.use_once`."""
        left = _milliseconds(expire_time - now)
        return bool(await self._within_time(self._client.set(self._used(name), "1", nx=True, px=left)))

    def _session(self, key: str) -> str:
        return f"{self._prefix}:s:{key}"

    def _subject(self, digest: str) -> str:
        return f"{self._prefix}:sub:{digest}"

    def _sid(self, digest: str) -> str:
        return f"{self._prefix}:sid:{digest}"

    def _used(self, name: str) -> str:
        return f"{self._prefix}:used:{name}"

    async def _run(self, script: str, keys: list[str], *args: str | int) -> Any:
        return await self._within_time(self._scripts[script](keys=keys, args=args))

    async def _within_time(self, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(
                f"the session store is unavailable: {cause_of(error)}", retry_after=_RETRY_AFTER
            ) from error


def _session(key: str, found: list[Any]) -> StoredSession | None:
    """Return the session of the fields, which are bytes or, by the client's setting, texts."""
    if found[0] is None:
        return None
    subject, sid, payload, expire, idle, version = (
        value.decode() if isinstance(value, bytes) else value for value in found
    )
    return StoredSession(key, subject, sid, payload, float(expire), float(idle), int(version))


def _milliseconds(left: float) -> int:
    return max(1, -int(-left * 1000 // 1))

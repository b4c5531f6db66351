"""The revocation mirror on Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from token_service.core.revocation.log import LogHead
from token_service.errors import StoreUnavailableError
from token_service.stores.redis import layout
from token_service.tokens.revocation import Revocation

_CONNECT_TIMEOUT: Final = 0.5
_TIMEOUT: Final = 1.0
"""Seconds for one operation, connecting included."""
_BLOCK: Final = 1.0
"""Seconds a listener waits for entries before it asks again; a Redis that hangs is noticed so much later,
too.
"""
_BATCH: Final = 200
"""Entries a script adds: about a millisecond in which Redis answers nobody else."""
_LOG_LENGTH: Final = 10_000
_AHEAD_LENGTH: Final = 100_000
_UNUSED_FOR: Final = 7 * 24 * 3600 * 1000
"""Milliseconds after which the keys without an expiry of their own are gone, should nobody publish to this
log any more.
"""
_MAX_DIGITS: Final = 20
"""A sequence has fewer."""
_GUARD: Final = 60_000
"""Milliseconds after which a rebuild that does not go on has failed."""

# KEYS: head, ahead, log, guard, then one for each entry. ARGV: "1" to demand the guard, length of the log,
# length of ahead, expiry of unused keys, life of the guard, then for each entry:
#   sequence, kind ("set" or "state"), member or state, expiry, number of stream fields, the fields.
# `head` moves over entries without a gap only: what never arrived leaves it behind, so that it is missed.
_PUBLISH: Final = """
local head, ahead, log, guard = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if ARGV[1] == '1' then
  if redis.call('PEXPIRE', guard, ARGV[5]) == 0 then return -1 end
end
local at = tonumber(redis.call('GET', head) or '-1')
local a = 6
for k = 5, #KEYS do
  local key, sequence, value, expiry, count = KEYS[k], ARGV[a], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
  local number = tonumber(sequence)
  if ARGV[a + 1] == 'set' then
    redis.call('SADD', key, value)
    redis.call('PEXPIREAT', key, expiry)
  else
    local known = redis.call('GET', key)
    if not known or tonumber(string.match(known, '^%d+')) < number then
      redis.call('SET', key, value)
      redis.call('PEXPIREAT', key, expiry)
    end
  end
  local entry = {}
  for f = 1, count do entry[f] = ARGV[a + 4 + f] end
  local added = redis.pcall('XADD', log, 'MAXLEN', '~', ARGV[2], sequence .. '-0', unpack(entry))
  if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true) then
    return added
  end
  if number > at then redis.call('ZADD', ahead, number, sequence) end
  a = a + 5 + count
end
if at >= 0 then
  local from = at
  while redis.call('ZREM', ahead, string.format('%.0f', at + 1)) == 1 do at = at + 1 end
  if at > from then redis.call('SET', head, string.format('%.0f', at)) end
end
redis.call('ZREMRANGEBYRANK', ahead, 0, -1 - tonumber(ARGV[3]))
for _, key in ipairs({head, ahead, log}) do redis.call('PEXPIRE', key, ARGV[4]) end
return 1
"""

# KEYS: head, ahead, guard. ARGV: sequence, expiry of unused keys.
_FINISH: Final = """
local head, ahead = KEYS[1], KEYS[2]
if redis.call('DEL', KEYS[3]) == 0 then return -1 end
local at = tonumber(redis.call('GET', head) or '-1')
if tonumber(ARGV[1]) > at then at = tonumber(ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', ahead, '-inf', string.format('%.0f', at))
while redis.call('ZREM', ahead, string.format('%.0f', at + 1)) == 1 do at = at + 1 end
redis.call('SET', head, string.format('%.0f', at), 'PX', ARGV[2])
return 1
"""

logger = logging.getLogger(__name__)


class RedisMirror:
    """Implements `RevocationMirror`.

    Use it as an async context manager, or call `aclose`. Connects when it is first used.
    """

    def __init__(self, url: str) -> None:
        """`url`: `redis://`, `rediss://` or `unix://`, with its password."""
        self._redis = _client(url)
        self._publish = self._redis.register_script(_PUBLISH)
        self._finish = self._redis.register_script(_FINISH)
        self._epoch = ""
        self._epoch_known = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries to the set and the stream."""
        self._is_about(epoch)
        for at in range(0, len(entries), _BATCH):
            await self._add(epoch, entries[at : at + _BATCH], guard=None)

    async def position(self, epoch: str) -> int | None:
        """Up to which sequence nothing is missing; None if that is not known, because there is no copy of
        this log or it was lost.
        """
        self._is_about(epoch)
        async with _limited(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.get(layout.EPOCH_KEY)
            pipeline.get(layout.prefix(epoch) + "head")
            known, head = await pipeline.execute()
        if known != epoch.encode() or head is None:
            return None
        # Whoever wrote what is no sequence, nothing is known then.
        return int(head) if head.isdigit() and len(head) < _MAX_DIGITS else None

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Add what is missing and say that nothing is.

        A guard key in Redis makes sure that what was added at the beginning is still there at the end: if
        not, the rebuild fails with `StoreUnavailableError`.
        """
        prefix = layout.prefix(head.epoch)
        guard = f"{prefix}rebuild:{secrets.token_hex(8)}"
        async with _limited():
            await self._redis.set(guard, "1", px=_GUARD)
        present = (
            await self.position(head.epoch) or 0
        )  # after the guard: it must still be there at the end, too
        async for page in entries:
            missing = [entry for entry in page if entry.sequence > present]
            for at in range(0, len(missing), _BATCH):
                await self._add(head.epoch, missing[at : at + _BATCH], guard=guard)
        async with _limited():
            keys = [f"{prefix}head", f"{prefix}ahead", guard]
            _demand(await self._finish(keys, [head.sequence, _UNUSED_FOR]))
            await self._end_other_log(head.epoch)
            await self._redis.set(layout.EPOCH_KEY, head.epoch)

    async def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """New entries of the log this node last published to or asked for, from now on."""
        await self._epoch_known.wait()
        while True:
            epoch = self._epoch
            log = layout.prefix(epoch) + "log"
            async with _limited():
                newest: Any = await self._redis.xrevrange(log, count=1)
            last: bytes = newest[0][0] if newest else b"0-0"
            while epoch == self._epoch:
                async with _limited(_BLOCK + _TIMEOUT):
                    block = round(_BLOCK * 1000)
                    answer: Any = await self._redis.xread({log: last}, count=1000, block=block)
                if answer:
                    found = answer[0][1]
                    last = found[-1][0]
                    if entries := list(_decoded(found)):
                        yield epoch, entries

    async def _add(self, epoch: str, entries: Sequence[Revocation], *, guard: str | None) -> None:
        prefix = layout.prefix(epoch)
        keys = [f"{prefix}head", f"{prefix}ahead", f"{prefix}log", guard or f"{prefix}rebuild:none"]
        arguments: list[str | int] = [int(guard is not None), _LOG_LENGTH, _AHEAD_LENGTH, _UNUSED_FOR, _GUARD]
        for entry in entries:
            keys.append(prefix + layout.key_of(entry))
            fields = layout.fields_of(entry)
            in_bucket = layout.bucket_of(entry) is not None
            arguments += [entry.sequence, "set" if in_bucket else "state"]
            arguments += [entry.value if in_bucket else layout.state_of(entry), layout.expiry_of(entry)]
            arguments += [len(fields), *fields]
        async with _limited():
            _demand(await self._publish(keys, arguments))

    async def _end_other_log(self, epoch: str) -> None:
        """Tell those who ask for revocations by the log that was here before that its copy is not kept any
        more.
        """
        known: Any = await self._redis.get(layout.EPOCH_KEY)
        if known is not None and known != epoch.encode():
            await self._redis.delete(layout.prefix(known.decode(errors="replace")) + "head")

    def _is_about(self, epoch: str) -> None:
        self._epoch = epoch
        self._epoch_known.set()

    def __repr__(self) -> str:
        return "<RedisMirror>"


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        # Its own time limit can swallow a cancellation that arrives while a command is sent (asyncio.wait_for
        # before Python 3.12); `_limited` can't.
        socket_timeout=None,
        # One more try for a connection that Redis has closed meanwhile.
        retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        client_name="token-service",
    )


def _demand(answer: Any) -> None:
    if answer != 1:
        raise StoreUnavailableError("Redis lost its data while it was being filled")


def _decoded(found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Revocation]:
    for entry_id, fields in found:
        try:
            yield layout.entry_of(entry_id, fields)
        except ValueError as error:  # the gap is filled from SQL
            logger.warning("the stream in Redis has an entry that is none of the log: %s", error)


@asynccontextmanager
async def _limited(seconds: float = _TIMEOUT) -> AsyncIterator[None]:
    """Time limit and translation of errors for one operation."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailableError(f"Redis is unavailable ({type(error).__name__})") from error

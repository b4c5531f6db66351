"""The mirror of the revocations on Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis

from token_service.core.revocation.log import LogHead
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess, RedisClients
from token_service.stores.redis import layout
from token_service.stores.redis.connection import limited
from token_service.tokens.revocation import Revocation

_BLOCK: Final = 1.0
"""Seconds a listener waits for entries before it asks again. It also delays the detection of a hanging Redis."""
_BATCH: Final = 200
"""Entries that one script run adds. Redis serves no other client during the run, about a millisecond."""
_LOG_LENGTH: Final = 10_000
_AHEAD_LENGTH: Final = 100_000
_UNUSED_FOR: Final = 7 * 24 * 3600 * 1000
"""Milliseconds without a publication after which the keys of a log without their own expiry expire."""
_MAX_DIGITS: Final = 20
"""A number with this many digits is not a sequence."""
_GUARD: Final = 60_000
"""Milliseconds without progress after which a rebuild fails."""

# KEYS: head, ahead, log, guard, then one key per entry. ARGV: the guard's value before ("" without a guard) and after,
# length of the log, length of ahead, expiry of unused keys, lifetime of the guard, then for each entry:
#   sequence, kind ("set" or "state"), member or state, expiry, number of stream fields, the fields.
# `head` moves only over entries without a gap: a lost entry stops it, which shows that the copy is incomplete.
_PUBLISH: Final = """
local head, ahead, log, guard = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if ARGV[1] ~= '' then
  local progress = redis.call('GET', guard)
  -- A run that is sent again because its reply was lost finds the value after.
  if progress ~= ARGV[1] and progress ~= ARGV[2] then return -1 end
  redis.call('SET', guard, ARGV[2], 'PX', ARGV[6])
end
local at = tonumber(redis.call('GET', head) or '-1')
local a = 7
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
  local added = redis.pcall('XADD', log, 'MAXLEN', '~', ARGV[3], sequence .. '-0', unpack(entry))
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
redis.call('ZREMRANGEBYRANK', ahead, 0, -1 - tonumber(ARGV[4]))
for _, key in ipairs({head, ahead, log}) do redis.call('PEXPIRE', key, ARGV[5]) end
return 1
"""

# KEYS: head, ahead, guard. ARGV: sequence, expiry of unused keys, the guard's value, the least value of head.
_FINISH: Final = """
local head, ahead = KEYS[1], KEYS[2]
local at = tonumber(redis.call('GET', head) or '-1')
if redis.call('GET', KEYS[3]) ~= ARGV[3] or (tonumber(ARGV[4]) > 0 and at < tonumber(ARGV[4])) then return -1 end
redis.call('DEL', KEYS[3])
if tonumber(ARGV[1]) > at then at = tonumber(ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', ahead, '-inf', string.format('%.0f', at))
while redis.call('ZREM', ahead, string.format('%.0f', at + 1)) == 1 do at = at + 1 end
redis.call('SET', head, string.format('%.0f', at), 'PX', ARGV[2])
return 1
"""

logger = logging.getLogger(__name__)


class RedisMirror:
    """Implements `RevocationMirror`.

    It is an async context manager; `aclose` closes it too. It connects on first use.
    """

    def __init__(self, access: RedisAccess) -> None:
        """Create a mirror. Raises `ConfigurationError`."""
        self._clients = RedisClients(access)
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
        await self._clients.aclose()

    @property
    def server(self) -> str:
        """The server that holds the log; empty: none is known."""
        return self._clients.server(layout.prefix(self._epoch))

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries to the set and the stream."""
        self._is_about(epoch)
        for at in range(0, len(entries), _BATCH):
            await self._add(epoch, entries[at : at + _BATCH], guard=None)

    async def position(self, epoch: str) -> int | None:
        """Return the sequence up to which the copy is complete.

        Returns None if Redis has no copy of this log, or has lost it.
        """
        self._is_about(epoch)
        async with limited("read_position"):
            # Two commands: in a cluster, two nodes have these keys.
            known = await self._clients.at(layout.EPOCH_KEY).get(layout.EPOCH_KEY)
            head = await self._at(epoch).get(layout.prefix(epoch) + "head")
        if known != epoch.encode() or head is None:
            return None
        # Another client of Redis may have written a value that is not a sequence.
        return int(head) if head.isdigit() and len(head) < _MAX_DIGITS else None

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Add the missing entries and mark the copy complete.

        A guard key in Redis holds the last entry that was added. It detects a loss of all data, and a failover that
        lost the newest writes: the rebuild then fails with `StoreUnavailableError`.
        """
        prefix = layout.prefix(head.epoch)
        guard = f"{prefix}rebuild:{secrets.token_hex(8)}"
        added = 0
        async with limited("set_guard"):
            await self._at(head.epoch).set(guard, added, px=_GUARD)
        # Read after the guard is set, so that the guard also covers the entries present now.
        present = await self.position(head.epoch) or 0
        async for page in entries:
            missing = [entry for entry in page if entry.sequence > present]
            for at in range(0, len(missing), _BATCH):
                batch = missing[at : at + _BATCH]
                await self._add(head.epoch, batch, guard=(guard, added, batch[-1].sequence))
                added = batch[-1].sequence
        async with limited("finish_rebuild"):
            keys = [f"{prefix}head", f"{prefix}ahead", guard]
            finish = self._at(head.epoch).register_script(_FINISH)
            _demand(await finish(keys, [head.sequence, _UNUSED_FOR, added, present]))
            await self._end_other_log(head.epoch)
            await self._clients.at(layout.EPOCH_KEY).set(layout.EPOCH_KEY, head.epoch)

    async def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """Yield the new entries of the log that this node last published to or asked for."""
        await self._epoch_known.wait()
        while True:
            epoch = self._epoch
            log = layout.prefix(epoch) + "log"
            async with limited("read_newest_entry"):
                newest: Any = await self._at(epoch).xrevrange(log, count=1)
            last: bytes = newest[0][0] if newest else b"0-0"
            while epoch == self._epoch:
                async with limited("wait_for_entries", waiting=_BLOCK):
                    block = round(_BLOCK * 1000)
                    answer: Any = await self._at(epoch).xread({log: last}, count=1000, block=block)
                if answer:
                    found = answer[0][1]
                    last = found[-1][0]
                    if entries := list(_decoded(found)):
                        yield epoch, entries

    async def _add(
        self, epoch: str, entries: Sequence[Revocation], *, guard: tuple[str, int, int] | None
    ) -> None:
        """Add entries. `guard`: its key, its value before, and its value after."""
        prefix = layout.prefix(epoch)
        key, before, after = guard or (f"{prefix}rebuild:none", "", "")
        keys = [f"{prefix}head", f"{prefix}ahead", f"{prefix}log", key]
        arguments: list[str | int] = [before, after, _LOG_LENGTH, _AHEAD_LENGTH, _UNUSED_FOR, _GUARD]
        for entry in entries:
            keys.append(prefix + layout.key_of(entry))
            fields = layout.fields_of(entry)
            in_bucket = layout.bucket_of(entry) is not None
            arguments += [entry.sequence, "set" if in_bucket else "state"]
            arguments += [entry.value if in_bucket else layout.state_of(entry), layout.expiry_of(entry)]
            arguments += [len(fields), *fields]
        async with limited("publish_entries"):
            _demand(await self._at(epoch).register_script(_PUBLISH)(keys, arguments))

    def _at(self, epoch: str) -> Redis:
        """Return the client for the keys of a log."""
        return self._clients.at(layout.prefix(epoch))

    async def _end_other_log(self, epoch: str) -> None:
        """Delete the head of the previous log, which tells its readers that its copy is no longer maintained."""
        known: Any = await self._clients.at(layout.EPOCH_KEY).get(layout.EPOCH_KEY)
        if known is not None and known != epoch.encode():
            head = layout.prefix(known.decode(errors="replace")) + "head"
            await self._clients.at(head).delete(head)

    def _is_about(self, epoch: str) -> None:
        self._epoch = epoch
        self._epoch_known.set()

    def __repr__(self) -> str:
        return "<RedisMirror>"


def _demand(answer: Any) -> None:
    if answer != 1:
        raise StoreUnavailableError("Redis lost its data while it was being filled")


def _decoded(found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Revocation]:
    for entry_id, fields in found:
        try:
            yield layout.entry_of(entry_id, fields)
        except ValueError as error:  # the follower reads the missing entry from SQL
            logger.warning("ignored an entry of the stream in Redis that is not from the log: %s", error)

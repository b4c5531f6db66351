"""`RevocationMirror` over every backend. Tests of Redis alone (layout, kills, pauses) are at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from tests.support.deadline import eventually
from tests.support.memory_mirror import MemoryMirror, MemoryMirrorData
from tests.support.redis import RedisServer, flush
from token_service.core.revocation.log import LogHead
from token_service.core.revocation.mirror import RevocationMirror
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess
from token_service.stores.redis import RedisMirror, layout
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

EPOCH = "epoch-one"
PROBES = 1000
"""Entries up to this sequence only find out whether a listener listens."""
T = RevocationTarget
NOW = int(time.time())
EXP = NOW // 64 * 64 + 64_000
"""Expiry of tokens, later than the end of a slow run. Read when the run begins."""


def entry(
    sequence: int, target: RevocationTarget = T.SESSION, value: str | None = None, **fields: object
) -> Revocation:
    text = f"{target.name}-{sequence}" if value is None else value
    given = {"revoke_time": NOW + 0.123456, "expire_time": NOW + 80_000.5, **fields}
    return Revocation(sequence, target, text, **given)  # type: ignore[arg-type]


def entries(first: int, last: int) -> list[Revocation]:
    return [entry(sequence) for sequence in range(first, last + 1)]


def head(sequence: int, epoch: str = EPOCH) -> LogHead:
    return LogHead(epoch, sequence, 0, 0)


async def pages(found: Sequence[Revocation], size: int = 3) -> AsyncIterator[Sequence[Revocation]]:
    for at in range(0, len(found), size):
        yield found[at : at + size]


@dataclass
class Backend:
    node: Callable[[], RevocationMirror]
    """Return the view of another node on the same mirror."""
    lose: Callable[[], None]
    """Empty the mirror."""


@pytest.fixture(params=["memory", "redis"])
async def mirrored(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        data = MemoryMirrorData()
        yield Backend(lambda: MemoryMirror(data), data.lose)
        return
    url = request.getfixturevalue("redis_url")
    async with AsyncExitStack() as stack:

        def node() -> RedisMirror:
            mirror = RedisMirror(RedisAccess.of(url))
            stack.push_async_callback(mirror.aclose)
            return mirror

        yield Backend(node, lambda: flush(url))


@pytest.fixture
def mirror(mirrored: Backend) -> RevocationMirror:
    return mirrored.node()


class Listener:
    """Listens in its own task."""

    def __init__(self, mirror: RevocationMirror) -> None:
        self.heard: list[Revocation] = []
        self.probed: list[Revocation] = []
        self._mirror = mirror
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for epoch, found in self._mirror.listen():
            assert epoch == EPOCH
            self.probed += [entry for entry in found if entry.sequence <= PROBES]
            self.heard += [entry for entry in found if entry.sequence > PROBES]

    async def ended(self, timeout: float = 60) -> None:
        await asyncio.wait_for(asyncio.shield(self._task), timeout)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def is_complete(mirror: RevocationMirror, at: LogHead) -> bool:
    """Whether nothing is missing up to the head."""
    position = await mirror.position(at.epoch)
    return position is not None and position >= at.sequence


async def listening(mirror: RevocationMirror, publisher: RevocationMirror) -> Listener:
    """Return a listener that has heard an entry; publish entries until then."""
    assert not await is_complete(mirror, head(10**9))  # tells the mirror which log to read
    listener = Listener(mirror)

    async def has_heard() -> bool:
        await publisher.publish(EPOCH, [entry(next(probes))])
        return bool(listener.probed)

    probes = iter(range(1, PROBES))
    await eventually(has_heard)
    return listener


async def test_a_mirror_is_incomplete_before_its_first_rebuild(mirror: RevocationMirror) -> None:
    assert not await is_complete(mirror, head(0))
    await mirror.publish(EPOCH, entries(1, 3))
    assert not await is_complete(mirror, head(3))
    assert not await is_complete(mirror, head(0))


async def test_a_rebuild_makes_it_complete_and_publishing_keeps_it(mirrored: Backend) -> None:
    one, two = mirrored.node(), mirrored.node()
    await one.rebuild(head(0), pages([]))
    assert await is_complete(two, head(0))
    await one.publish(EPOCH, entries(1, 2))
    await two.publish(EPOCH, entries(3, 3))
    for node in (one, two):
        assert await is_complete(node, head(3))
        assert not await is_complete(node, head(4))
    await two.rebuild(head(7), pages(entries(1, 7)))
    assert await is_complete(one, head(7))


async def test_entries_may_arrive_in_any_order_and_repeatedly(mirror: RevocationMirror) -> None:
    await mirror.rebuild(head(0), pages([]))
    await mirror.publish(EPOCH, [entry(3), entry(5)])
    await mirror.publish(EPOCH, [entry(2)])
    assert not await is_complete(mirror, head(1))
    await mirror.publish(EPOCH, [entry(1)])
    assert await is_complete(mirror, head(3))
    assert not await is_complete(mirror, head(4))
    await mirror.publish(EPOCH, [entry(2), entry(4), entry(4)])
    assert await is_complete(mirror, head(5))


async def test_a_lost_entry_leaves_the_mirror_incomplete_until_a_rebuild(mirror: RevocationMirror) -> None:
    await mirror.rebuild(head(2), pages(entries(1, 2)))
    await mirror.publish(EPOCH, entries(4, 9))
    assert not await is_complete(mirror, head(9))
    await mirror.rebuild(head(9), pages(entries(1, 9)))
    assert await is_complete(mirror, head(9))


async def test_entries_published_during_a_rebuild_count(mirrored: Backend) -> None:
    one, two = mirrored.node(), mirrored.node()

    async def interrupted() -> AsyncIterator[Sequence[Revocation]]:
        yield entries(1, 2)
        await two.publish(EPOCH, [entry(5), entry(6)])
        yield entries(3, 4)

    await one.rebuild(head(4), interrupted())
    assert await is_complete(one, head(6))


async def test_two_nodes_may_rebuild_concurrently(mirrored: Backend) -> None:
    one, two = mirrored.node(), mirrored.node()
    await asyncio.gather(
        one.rebuild(head(500), pages(entries(1, 500), 50)), two.rebuild(head(510), pages(entries(1, 510), 30))
    )
    assert await is_complete(one, head(510))


async def test_an_emptied_mirror_is_incomplete(mirrored: Backend) -> None:
    one, two = mirrored.node(), mirrored.node()
    await one.rebuild(head(3), pages(entries(1, 3)))
    mirrored.lose()
    for node in (one, two):
        assert not await is_complete(node, head(0))
    await one.publish(EPOCH, [entry(4)])
    assert not await is_complete(two, head(4))
    await two.rebuild(head(4), pages(entries(1, 4)))
    assert await is_complete(one, head(4))


async def test_a_loss_during_a_rebuild_is_noticed(mirrored: Backend) -> None:
    mirror = mirrored.node()

    async def unlucky() -> AsyncIterator[Sequence[Revocation]]:
        yield entries(1, 2)
        mirrored.lose()
        yield entries(3, 4)

    with pytest.raises(StoreUnavailableError):
        await mirror.rebuild(head(4), unlucky())
    assert not await is_complete(mirror, head(0))

    async def unlucky_at_the_end() -> AsyncIterator[Sequence[Revocation]]:
        yield entries(1, 4)
        mirrored.lose()

    with pytest.raises(StoreUnavailableError):
        await mirror.rebuild(head(4), unlucky_at_the_end())
    assert not await is_complete(mirror, head(0))


async def test_another_epoch_has_its_own_mirror(mirror: RevocationMirror) -> None:
    await mirror.rebuild(head(3), pages(entries(1, 3)))
    assert not await is_complete(mirror, head(0, "epoch-two"))
    await mirror.rebuild(head(1, "epoch-two"), pages(entries(1, 1)))
    assert await is_complete(mirror, head(1, "epoch-two"))
    assert not await is_complete(mirror, head(3))


async def test_a_rebuild_raises_the_error_of_its_entries(mirror: RevocationMirror) -> None:
    async def failing() -> AsyncIterator[Sequence[Revocation]]:
        yield entries(1, 2)
        raise StoreUnavailableError("SQL is away")

    with pytest.raises(StoreUnavailableError, match="SQL is away"):
        await mirror.rebuild(head(4), failing())
    assert not await is_complete(mirror, head(0))


async def test_listeners_receive_published_entries_unchanged(mirrored: Backend) -> None:
    one, two, three = mirrored.node(), mirrored.node(), mirrored.node()
    first, second = await listening(two, one), await listening(three, one)
    published = [
        entry(1001, T.TOKEN_ID, "8Zr1", token_expire_time=EXP, expire_time=EXP + 300),
        entry(1002, T.TOKEN_ID, "no expiry known"),
        entry(1003, T.SESSION, "0199b0c4-7f6e-7cc3-98c4-dc0c0c07398f", reason=RevocationReason.LOGOUT),
        entry(1004, T.SUBJECT, "ålice {x} \n\0 €"),
        entry(1005, T.CLIENT, "web", revoke_time=1767226400.000001),
        entry(1006, T.KEY, "kPrK_qmx"),
        entry(1007, T.EVERYTHING, ""),
    ]
    await one.publish(EPOCH, published[:3])
    await one.publish(EPOCH, published[3:])
    await eventually(lambda: min(len(first.heard), len(second.heard)) >= len(published))
    for listener in (first, second):
        assert listener.heard == published
        await listener.stop()


async def test_a_listener_hears_a_burst_in_order(mirrored: Backend) -> None:
    one, two = mirrored.node(), mirrored.node()
    listener = await listening(two, one)
    await one.publish(EPOCH, entries(1001, 3500))
    await eventually(lambda: len(listener.heard) >= 2500)
    assert [found.sequence for found in listener.heard] == list(range(1001, 3501))
    await listener.stop()


# --- Only Redis -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@dataclass
class Token:
    jti: str = "8Zr1"
    sid: str = "0199"
    sub: str = "alice"
    client_id: str = "web"
    kid: str = "kPrK"
    exp: int = EXP
    iat: int = NOW - 100
    rev: int | None = 41


async def ask(store: Redis, token: Token) -> bool | None:
    """Ask as a gateway does by docs/redis-layout.md. None: the copy can't be trusted."""
    epoch: Any = await store.get("token_service:epoch")
    p = f"token_service:{{{epoch}}}"
    async with store.pipeline(transaction=False) as pipeline:
        pipeline.sismember(f"{p}:jti:{token.exp // 64}", token.jti)
        pipeline.exists(f"{p}:jti:0:{token.jti}", f"{p}:sid:{token.sid}", f"{p}:kid:{token.kid}")
        pipeline.mget(f"{p}:sub:{token.sub}", f"{p}:client:{token.client_id}", f"{p}:everything")
        pipeline.get(f"{p}:head")
        by_id, by_key, states, at = await pipeline.execute()
    if at is None:
        return None
    if by_id or by_key:
        return True
    for state in filter(None, states):
        sequence, _, time_us = state.partition(":")
        if token.rev is not None and token.rev < int(sequence):
            return True
        if token.rev is None and token.iat * 1_000_000 <= int(time_us):
            return True
    return False


async def test_a_gateway_sees_every_kind_of_revocation(redis_url: str, store: Redis) -> None:
    good = Token()
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        assert await ask(store, good) is None
        await mirror.rebuild(head(41), pages([]))
        assert await ask(store, good) is False
        for number, (target, value, other) in enumerate(
            [
                (T.TOKEN_ID, "8Zr1", replace(good, jti="8Zr2")),
                (T.SESSION, "0199", replace(good, sid="0200")),
                (T.KEY, "kPrK", replace(good, kid="kPrL")),
                (T.SUBJECT, "alice", replace(good, sub="bob")),
                (T.CLIENT, "web", replace(good, client_id="app")),
            ],
            42,
        ):
            await mirror.publish(EPOCH, [entry(number, target, value)])
            assert await ask(store, good) is True
            assert await ask(store, other) is False
            await store.flushall()
            assert await ask(store, good) is None
            await mirror.rebuild(head(41), pages([]))
        await mirror.publish(
            EPOCH, [entry(42, T.TOKEN_ID, "8Zr1", token_expire_time=EXP, expire_time=EXP + 300)]
        )
        assert await ask(store, good) is True
        assert await ask(store, replace(good, exp=EXP + 64)) is False
        await mirror.publish(EPOCH, [entry(43, T.EVERYTHING, "")])
        assert await ask(store, Token(jti="x", rev=42)) is True
        assert await ask(store, Token(jti="x", rev=43)) is False
        assert await ask(store, Token(jti="x", rev=None, iat=NOW)) is True
        assert await ask(store, Token(jti="x", rev=None, iat=NOW + 1)) is False


async def test_a_gateway_with_the_previous_epoch_notices_the_renewal(redis_url: str, store: Redis) -> None:
    start = 1_800_000_000_000_000
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(head(41), pages([]))
        known = layout.prefix(EPOCH) + "head"
        assert await store.get(known) == "41"
        await mirror.rebuild(head(start, "epoch-two"), pages([entry(start, T.EVERYTHING, "")]))
        assert await store.get(known) is None
        assert await ask(store, Token(rev=41)) is True
        assert await ask(store, Token(rev=start - 1)) is True
        assert await ask(store, Token(rev=start)) is False
        await mirror.publish("epoch-two", [entry(start + 1, T.SUBJECT, "alice")])
        assert await mirror.position("epoch-two") == start + 1
        assert await ask(store, Token(rev=start)) is True
        assert await ask(store, Token(rev=start + 1)) is False
        # A node that does not know of the renewal still publishes to the previous log, which does not restore
        # that log.
        await mirror.publish(EPOCH, [entry(42, T.SUBJECT, "bob")])
        assert await store.get(known) is None


async def test_an_older_entry_never_replaces_a_later_one(redis_url: str, store: Redis) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        late, early = entry(50, T.SUBJECT, "alice"), entry(9, T.SUBJECT, "alice", revoke_time=NOW - 9)
        await mirror.publish(EPOCH, [late])
        await mirror.publish(EPOCH, [early])
        assert await store.get(f"token_service:{{{EPOCH}}}:sub:alice") == layout.state_of(late)


async def test_every_key_expires_once_it_is_irrelevant(redis_url: str, store: Redis) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(
            head(3),
            pages(
                [
                    entry(1, T.TOKEN_ID, "a", token_expire_time=EXP + 1, expire_time=EXP + 301),
                    entry(2, T.TOKEN_ID, "b", expire_time=NOW + 50_000.5),
                    entry(3, T.SUBJECT, "gone", expire_time=NOW - 1),
                ]
            ),
        )
        await mirror.publish(
            EPOCH, [entry(5, T.TOKEN_ID, "c", token_expire_time=EXP + 63, expire_time=EXP + 363)]
        )
        p = f"token_service:{{{EPOCH}}}"
        assert not await store.exists(f"{p}:sub:gone")
        for key in await store.keys("*"):
            assert isinstance(key, str)
            left = await store.pttl(key)
            if key == f"{p}:jti:{EXP // 64}":
                assert left == pytest.approx((EXP + 64 + 300 - time.time()) * 1000, abs=20_000)
            elif key == f"{p}:jti:0:b":
                assert left == pytest.approx((NOW + 50_000.5 - time.time()) * 1000, abs=20_000)
            elif key == "token_service:epoch":
                assert left == -1
            else:
                assert key.removeprefix(f"{p}:") in {"head", "ahead", "log"}
                assert left > 6 * 24 * 3600 * 1000


async def test_the_stream_has_the_ids_of_the_log_and_stays_short(redis_url: str, store: Redis) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.publish(EPOCH, entries(2, 4))
        await mirror.publish(EPOCH, [entry(1)])  # too late for the stream, in time for the set
        log = f"token_service:{{{EPOCH}}}:log"
        stream = await store.xrange(log)
        assert stream is not None
        assert [entry_id for entry_id, _ in stream] == ["2-0", "3-0", "4-0"]
        assert await store.exists(f"token_service:{{{EPOCH}}}:sid:SESSION-1")
        await mirror.publish(EPOCH, entries(5, 12_000))
        assert await store.xlen(log) <= 10_200


async def test_a_malformed_stream_entry_is_skipped(
    redis_url: str, store: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as one, RedisMirror(RedisAccess.of(redis_url)) as two:
        listener = await listening(two, one)
        log = f"token_service:{{{EPOCH}}}:log"
        await store.xadd(log, {"junk": "1"}, "2001-0")
        await store.xadd(log, {"target": "nobody", "value": "x"}, "2002-0")
        await store.xadd(log, {b"target": b"session", b"value": b"\xff"}, "2002-7")
        fields = layout.fields_of(entry(2003, T.TOKEN_ID, "jti", token_expire_time=EXP))
        good = dict(zip(fields[::2], fields[1::2], strict=True))
        for number, changed in enumerate(
            {name: value}
            for name in ("revoke_time_us", "expire_time_us", "token_expire_time")
            for value in ("-1", "9" * 20, "9" * 400, "1.5")
        ):
            await store.xadd(log, {**good, **changed}, f"{2003 + number}-0")  # type: ignore[dict-item]
        await one.publish(EPOCH, [entry(2100)])
        await store.xadd(log, good, f"{2**63}-0")  # type: ignore[arg-type]
        await eventually(lambda: listener.heard)
        assert listener.heard == [entry(2100)]
        assert caplog.text.count("not from the log") >= 15
        await listener.stop()


@pytest.mark.parametrize("text", ["junk", "-1", "1e3", "9" * 20, "9" * 5000])
async def test_a_malformed_position_is_unknown(redis_url: str, store: Redis, text: str) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(head(0), pages([]))
        assert await mirror.position(EPOCH) == 0
        await store.set(f"token_service:{{{EPOCH}}}:head", text)
        assert await mirror.position(EPOCH) is None


async def test_missing_scripts_are_loaded_again(redis_url: str, store: Redis) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(head(1), pages(entries(1, 1)))
        await store.script_flush()
        await mirror.publish(EPOCH, entries(2, 2))
        assert await is_complete(mirror, head(2))


async def test_a_redis_without_memory_is_unavailable(redis_url: str, store: Redis) -> None:
    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(head(0), pages([]))
        await store.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailableError):
                await mirror.publish(EPOCH, entries(1, 1))
        finally:
            await store.config_set("maxmemory", "0")
        assert not await is_complete(mirror, head(1))


async def test_a_killed_redis_is_unavailable_and_restarts_empty(private_redis: RedisServer) -> None:
    async with (
        RedisMirror(RedisAccess.of(private_redis.url)) as one,
        RedisMirror(RedisAccess.of(private_redis.url)) as two,
    ):
        await one.rebuild(head(2), pages(entries(1, 2)))
        listener = await listening(two, one)
        private_redis.kill()
        with pytest.raises(StoreUnavailableError):
            await listener.ended()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await one.publish(EPOCH, entries(3, 3))
            with pytest.raises(StoreUnavailableError):
                await is_complete(one, head(0))
            with pytest.raises(StoreUnavailableError):
                await one.rebuild(head(2), pages(entries(1, 2)))
        private_redis.start()
        assert not await is_complete(one, head(0))
        await one.rebuild(head(3), pages(entries(1, 3)))
        assert await is_complete(two, head(3))
        listener = await listening(two, one)
        await listener.stop()


async def test_a_restart_between_two_calls_causes_no_error(
    private_redis: RedisServer,
) -> None:
    async with RedisMirror(RedisAccess.of(private_redis.url)) as mirror:
        await mirror.publish(EPOCH, entries(1, 1))
        private_redis.restart()
        await mirror.publish(EPOCH, entries(2, 2))


async def test_a_paused_redis_fails_every_call_in_bounded_time(
    private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the limit of the service
    async with (
        RedisMirror(RedisAccess.of(private_redis.url)) as one,
        RedisMirror(RedisAccess.of(private_redis.url)) as two,
    ):
        await one.rebuild(head(0), pages([]))
        listener = await listening(two, one)
        private_redis.pause()
        calls = [
            one.publish(EPOCH, entries(900, 900)),
            one.position(EPOCH),
            two.rebuild(head(0), pages([])),
        ]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        with pytest.raises(StoreUnavailableError):
            await listener.ended()
        private_redis.resume()
        # Redis may or may not run the commands sent during the pause: both are fine.
        await eventually(lambda: _succeeds(one.rebuild(head(901), pages(entries(1, 901), 100))))
        assert await is_complete(two, head(901))


async def _succeeds(call: object) -> bool:
    try:
        await call  # type: ignore[misc]
    except StoreUnavailableError:
        return False
    return True


async def replaced_by_a_replica_that_lacks_the_newest_writes(url: str, entries_left: int) -> None:
    """Change Redis to what a replica has that received the first entries of a rebuild and the value of its guard then."""
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        (guard,) = await client.keys("*:rebuild:*")
        await client.set(guard, str(entries_left), px=60_000)
        lost: Any = await client.xrange(layout.prefix(EPOCH) + "log", f"({entries_left}")
        for entry_id, _ in lost:
            number = int(entry_id.partition("-")[0])
            await client.delete(layout.prefix(EPOCH) + layout.key_of(*entries(number, number)))


@pytest.mark.parametrize("left", [0, 20])
async def test_rebuild_fails_if_a_failover_lost_some_of_its_entries(redis_url: str, left: int) -> None:
    async def read() -> AsyncIterator[Sequence[Revocation]]:
        yield entries(1, 20)
        yield entries(21, 40)
        await replaced_by_a_replica_that_lacks_the_newest_writes(redis_url, left)

    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        with pytest.raises(StoreUnavailableError, match="lost"):
            await mirror.rebuild(head(40), read())
        assert await mirror.position(EPOCH) is None
        await mirror.rebuild(head(40), pages(entries(1, 40), 20))
        assert await mirror.position(EPOCH) == 40


async def test_rebuild_fails_if_a_failover_lost_entries_that_it_did_not_add(redis_url: str) -> None:
    async def read() -> AsyncIterator[Sequence[Revocation]]:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.set(layout.prefix(EPOCH) + "head", "15")  # the replica had not received 16 to 20
        yield entries(1, 40)

    async with RedisMirror(RedisAccess.of(redis_url)) as mirror:
        await mirror.rebuild(head(20), pages(entries(1, 20)))
        with pytest.raises(StoreUnavailableError, match="lost"):
            await mirror.rebuild(head(40), read())
        await mirror.publish(EPOCH, entries(16, 40))
        assert await mirror.position(EPOCH) == 40


async def test_an_unreachable_redis_is_unavailable_and_its_password_hidden() -> None:
    async with RedisMirror(RedisAccess.of("redis://:hunter2@127.0.0.1:1/0")) as mirror:
        with pytest.raises(StoreUnavailableError) as caught:
            await mirror.publish(EPOCH, entries(1, 1))
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in repr(mirror)


async def test_a_wrong_password_is_unavailable(redis_url: str) -> None:
    url = redis.Redis.from_url(redis_url).connection_pool.connection_kwargs
    async with RedisMirror(RedisAccess.of(f"redis://:wrong@{url['host']}:{url['port']}")) as mirror:
        if url.get("password"):
            with pytest.raises(StoreUnavailableError):
                await is_complete(mirror, head(0))

"""The server is the one that most of the asked servers name, and is asked for only when it is not known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.unit.core.virtual_time import settle, virtual_time
from token_service.redis_clients.failures import NoServerError
from token_service.redis_clients.servers import Address, ClusterServers, FixedServer, SentinelServers

SENTINELS = [("s1", 1), ("s2", 2), ("s3", 3)]
OLD, NEW = ("old", 6379), ("new", 6379)
HANGS = object()


class Asked:
    """Sentinels with these answers: an address, None for an unknown name, an error, or `HANGS`."""

    def __init__(self, *answers: object) -> None:
        self.answers: dict[Address, object] = dict(zip(SENTINELS, answers, strict=True))
        self.times: Counter[Address] = Counter()
        self.open = 0

    def connect_to(self, address: Address) -> Connection:
        return cast("Connection", _Connection(self, address))

    def servers(self) -> SentinelServers:
        return SentinelServers(SENTINELS, "tokens", self.connect_to)


class _Connection:
    def __init__(self, asked: Asked, address: Address) -> None:
        self._asked = asked
        self._address = address
        self.host = address[0]

    async def connect(self) -> None:
        self._asked.times[self._address] += 1
        self._asked.open += 1

    async def send_command(self, *words: str) -> None:
        assert words == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tokens")

    async def read_response(self) -> Any:
        answer = self._asked.answers[self._address]
        await asyncio.sleep(0)
        if answer is HANGS:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return None
        host, port = cast("Address", answer)
        return [host.encode(), str(port).encode()]

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait
        self._asked.open -= 1


@pytest.mark.parametrize(
    "answers",
    [
        (NEW, NEW, NEW),
        (OLD, NEW, NEW),
        (HANGS, NEW, NEW),
        (RedisConnectionError(), NEW, NEW),
        (None, NEW, None),
    ],
)
@virtual_time
async def test_majority_names_the_server(answers: tuple[object, ...]) -> None:
    asked = Asked(*answers)
    assert await asked.servers().find() == NEW
    assert asked.open == 0, "a connection stayed open"


@virtual_time
async def test_sentinel_that_hangs_delays_nothing_if_the_others_agree() -> None:
    before = asyncio.get_running_loop().time()
    assert await Asked(NEW, HANGS, NEW).servers().find() == NEW
    assert asyncio.get_running_loop().time() == before


@virtual_time
async def test_search_ends_if_no_sentinel_answers() -> None:
    asked = Asked(HANGS, HANGS, RedisConnectionError())
    with pytest.raises(NoServerError) as caught:
        await asked.servers().find()
    assert str(caught.value) == (
        "none of s1:1, s2:2, s3:3 names the master of tokens: ConnectionError; no answer within 400 ms"
    )
    assert asked.open == 0


@virtual_time
async def test_unknown_master_is_named() -> None:
    with pytest.raises(NoServerError, match=r"names the master of tokens: it is not known there$"):
        await Asked(None, None, None).servers().find()


@virtual_time
async def test_many_connections_ask_once() -> None:
    asked = Asked(NEW, NEW, NEW)
    servers = asked.servers()
    assert set(await asyncio.gather(*(servers.find() for _ in range(50)))) == {NEW}
    assert sum(asked.times.values()) <= len(SENTINELS)


@virtual_time
async def test_server_is_asked_for_again_only_after_the_one_in_use_failed() -> None:
    asked = Asked(OLD, OLD, OLD)
    servers = asked.servers()
    assert await servers.find() == OLD
    asked.answers = dict.fromkeys(SENTINELS, NEW)
    servers.forget(("another", 1))
    assert await servers.find() == OLD
    servers.forget(OLD)
    assert await servers.find() == NEW
    servers.forget(OLD)  # a late failure of a connection to the old one
    assert servers.current == NEW


@virtual_time
async def test_cancelled_search_closes_its_connections_and_the_next_one_works() -> None:
    asked = Asked(HANGS, HANGS, HANGS)
    servers = asked.servers()
    search = asyncio.create_task(servers.find())
    await settle()
    assert asked.open == len(SENTINELS)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert asked.open == 0
    asked.answers = dict.fromkeys(SENTINELS, NEW)
    assert await servers.find() == NEW


def cluster(slots: Callable[[Address], list[Any]], slot: int = 100) -> ClusterServers:
    class Node(_Connection):
        async def send_command(self, *words: str) -> None:
            assert words == ("CLUSTER", "SLOTS")

        async def read_response(self) -> Any:
            return slots(self._address)

    asked = Asked(None, None, None)
    return ClusterServers(SENTINELS, slot, lambda address: cast("Connection", Node(asked, address)))


@virtual_time
async def test_owner_of_the_slot_is_found() -> None:
    ranges = [[0, 99, [b"a", 1, b"id"]], [100, 16383, [b"b", 2, b"id"], [b"replica", 3, b"id"]]]
    assert await cluster(lambda _: ranges).find() == ("b", 2)


@virtual_time
async def test_slot_without_an_owner_is_named() -> None:
    with pytest.raises(NoServerError, match="names the owner of slot 100"):
        await cluster(lambda _: [[0, 99, [b"a", 1, b"id"]]]).find()


@pytest.mark.parametrize("unknown", [b"", None])
@virtual_time
async def test_node_without_a_name_is_where_it_was_asked(unknown: bytes | None) -> None:
    found = await cluster(lambda _: [[0, 16383, [unknown, 7, b"id"]]]).find()
    assert (found[0] in {"s1", "s2", "s3"}, found[1]) == (True, 7)


@virtual_time
async def test_moved_slot_is_followed_and_the_old_owner_not_asked_for() -> None:
    servers = cluster(lambda _: [[0, 16383, [b"a", 1, b"id"]]])
    assert await servers.find() == ("a", 1)
    assert servers.moved(("b", 2))
    servers.forget(("a", 1))
    assert await servers.find() == ("b", 2)
    assert not FixedServer(("a", 1)).moved(("b", 2))


@virtual_time
async def test_learned_nodes_are_asked_when_those_of_the_url_are_gone() -> None:
    gone = False

    def slots(address: Address) -> list[Any]:
        if gone and address in SENTINELS:
            raise RedisConnectionError
        return [[0, 16383, [b"b" if gone else b"a", 1, b"id"]]]

    servers = cluster(slots)
    assert await servers.find() == ("a", 1)
    gone = True
    servers.forget(("a", 1))
    assert await servers.find() == ("b", 1)

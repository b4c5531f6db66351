"""A Redis Cluster of three masters with a replica each."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.crc import key_slot

from tests.support.deadline import eventually_sync
from tests.support.redis import RedisServer, RedisTlsFiles
from tests.support.redis7 import find_redis_7, libraries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_SLOTS = 16384


class RedisClusterServers:
    """The nodes. A master that does not answer for a second is replaced by its replica."""

    def __init__(self, *, masters: int = 3, tls: RedisTlsFiles | None = None) -> None:
        self.password = secrets.token_hex(16)
        self._masters = masters
        self._tls = tls
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1000",
            "cluster-replica-validity-factor": "0",
            "masterauth": self.password,
            "repl-diskless-sync-delay": "0",
        }
        self.servers = [
            RedisServer(
                binary=find_redis_7(), settings=settings, password=self.password, tls=tls, env=libraries()
            )
            for _ in range(2 * masters)
        ]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """URL with three of the nodes and the password."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])
        return f"{'redis' if self._tls is None else 'rediss'}+cluster://:{self.password}@{hosts}"

    def close(self) -> None:
        """Kill all nodes."""
        for server in self.servers:
            server.close()

    def owner(self, key: str) -> RedisServer:
        """Return the master of a key, as most running nodes know it."""
        slot, votes = key_slot(key.encode()), dict[int, int]()
        for server in self.servers:
            for first, last, node in self._slots(server):
                if first <= slot <= last:
                    votes[node] = votes.get(node, 0) + 1
        port = max(votes, key=lambda each: votes[each])
        return next(server for server in self.servers if server.port == port)

    def keys(self, pattern: str) -> set[str]:
        """Return the keys of all masters."""
        found: set[str] = set()
        for server in {server.port: server for server in map(self._by_port, self._owners())}.values():
            with server.client() as client:
                found |= set(client.keys(pattern))
        return found

    def begin_move(self, key: str) -> tuple[RedisServer, RedisServer]:
        """Begin to move the slot of a key to another master. Return both."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target = next(self._by_port(port) for port in self._owners() if port != source.port)
        with source.client() as old, target.client() as new:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", _id(old))
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", _id(new))
        return source, target

    def move_keys(self, key: str, source: RedisServer, target: RedisServer, count: int) -> int:
        """Move up to `count` keys of a slot that is moving. Return how many there were."""
        with source.client() as old:
            names: list[str] = old.execute_command("CLUSTER GETKEYSINSLOT", key_slot(key.encode()), count)
            if names:
                proof = ("AUTH", self.password, "KEYS", *names)
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *proof)
        return len(names)

    def end_move(self, key: str, source: RedisServer, target: RedisServer) -> None:
        """Move the remaining keys, and give the slot to the other master."""
        while self.move_keys(key, source, target, 100):
            pass
        with target.client() as new, source.client() as old:
            owner = _id(new)
            for client in (new, old):
                client.execute_command("CLUSTER SETSLOT", key_slot(key.encode()), "NODE", owner)
        eventually_sync(lambda: self.owner(key) is target)

    def wait_until_whole(self) -> None:
        """Return when all running nodes see all slots, and each master has a replica."""
        eventually_sync(self._all_whole)

    def _all_whole(self) -> bool:
        try:
            for server in self.servers:
                if server.running and not self._is_whole(server):
                    return False
        except redis.RedisError:
            return False
        return True

    def _is_whole(self, server: RedisServer) -> bool:
        with server.client() as client:
            state = client.execute_command("CLUSTER INFO")
            ranges = client.execute_command("CLUSTER SLOTS")
        with_replica = sum(len(each) > 3 for each in _ranges(ranges))
        return state["cluster_state"] == "ok" and with_replica >= self._masters

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        first, *others = self.servers
        with first.client() as client:
            for other in others:
                client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)
        share = -(-_SLOTS // self._masters)
        for number, server in enumerate(self.servers[: self._masters]):
            with server.client() as client:
                last = min(_SLOTS, (number + 1) * share) - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
        for number, server in enumerate(self.servers[self._masters :]):
            with self.servers[number].client() as client:
                master = _id(client)
            eventually_sync(lambda server=server, master=master: self._replicates(server, master))  # type: ignore[misc]
        self.wait_until_whole()

    def _replicates(self, server: RedisServer, master: str) -> bool:
        try:
            with server.client() as client:
                client.execute_command("CLUSTER REPLICATE", master)
        except redis.RedisError:  # the nodes do not know each other yet
            return False
        return True

    def _by_port(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def _owners(self) -> list[int]:
        """Return the ports of the masters with slots, by the view of most nodes."""
        views: list[tuple[int, ...]] = [
            tuple(sorted({node for _, _, node in self._slots(server)})) for server in self.servers
        ]
        return list(Counter(views).most_common(1)[0][0])

    def _slots(self, server: RedisServer) -> Iterator[tuple[int, int, int]]:
        if not server.running:
            return
        try:
            with server.client() as client:
                ranges = client.execute_command("CLUSTER SLOTS")
        except redis.RedisError:
            return
        for first, last, (_, port, *_), *_ in _ranges(ranges):
            yield int(first), int(last), int(port)


def _ranges(answer: Any) -> list[Any]:
    """Return the ranges of CLUSTER SLOTS as the server sends them; redis-py makes a mapping of them."""
    if isinstance(answer, dict):
        return [
            [first, last, value["primary"], *value["replicas"]] for (first, last), value in answer.items()
        ]
    return list(answer)


def _id(client: redis.Redis) -> str:
    return str(client.execute_command("CLUSTER MYID"))  # type: ignore[no-untyped-call]

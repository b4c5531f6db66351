"""Where the server is that holds our keys: fixed, or found by asking Sentinel or a Cluster."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio.connection import Connection

from token_service.redis_clients.failures import NoServerError, cause_of

Address = tuple[str, int]

_ANSWER_TIMEOUT: Final = 0.4
"""Seconds for all answers. A search and the connection fit into the time limit of one operation."""
_MOST_ASKED: Final = 8
"""Nodes of a cluster that a search asks."""

logger = logging.getLogger(__name__)


class Servers(ABC):
    """The server that connections go to, remembered until a connection to it fails."""

    current: Address | None = None

    @abstractmethod
    async def find(self) -> Address:
        """Return the server. Raises `NoServerError`."""

    def forget(self, address: Address) -> None:  # noqa: B027 - a server that never changes has nothing to forget
        """Search again before the next connection if `address` is still the server in use."""

    def moved(self, address: Address) -> bool:
        """Use this server from now on. Return whether that is possible."""
        del address
        return False


class FixedServer(Servers):
    """One server that never changes."""

    def __init__(self, address: Address) -> None:
        self.current: Address | None = address
        self._address = address

    async def find(self) -> Address:
        """Return the server."""
        return self._address


class _FoundServer(Servers):
    """A server that others name. The answer of the majority counts, because one of them may be cut off from the rest."""

    def __init__(self, name: str, connection_to: Callable[[Address], Connection]) -> None:
        self._name = name
        self._connection_to = connection_to
        self._last: Address | None = None
        self._lock = asyncio.Lock()

    async def find(self) -> Address:
        """Return the server; ask for it if it is not known."""
        async with self._lock:
            if self.current is None:
                self._use(await self._search())
            assert self.current is not None
            return self.current

    def forget(self, address: Address) -> None:
        """Search again before the next connection if `address` is still the server in use."""
        if self.current == address:
            self.current = None

    def _use(self, address: Address) -> None:
        self.current = address
        if address != self._last:
            self._last = address
            logger.info("using the Redis server %s:%d, %s", *address, self._name)

    @abstractmethod
    def _asked(self) -> Sequence[Address]:
        """Return the servers to ask."""

    @abstractmethod
    async def _ask(self, connection: Connection) -> Address | None:
        """Ask one server; None: it does not know."""

    async def _search(self) -> Address:
        asked = self._asked()
        votes: Counter[Address] = Counter()
        problems: list[str] = []
        questions = [asyncio.create_task(self._answer(address)) for address in asked]
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                for next_answer in asyncio.as_completed(questions):
                    answer = await next_answer
                    if isinstance(answer, str):
                        problems.append(answer)
                        continue
                    votes[answer] += 1
                    if votes[answer] * 2 > len(asked):
                        return answer
        except TimeoutError:
            problems.append("no answer within 400 ms")
        finally:
            for question in questions:
                question.cancel()
            await asyncio.gather(*questions, return_exceptions=True)
        if votes:
            return votes.most_common(1)[0][0]
        raise NoServerError(
            f"none of {', '.join(f'{host}:{port}' for host, port in asked)} names {self._name}: {'; '.join(dict.fromkeys(problems))}"
        )

    async def _answer(self, address: Address) -> Address | str:
        """Return the answer of one server, or why it gave none."""
        connection = self._connection_to(address)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return await self._ask(connection) or "it is not known there"
        except Exception as error:  # noqa: BLE001 - one server that fails in any way is one answer less
            return cause_of(error)
        finally:
            await connection.disconnect(nowait=True)


class SentinelServers(_FoundServer):
    """The master that the sentinels name."""

    def __init__(
        self, sentinels: Sequence[Address], master: str, connection_to: Callable[[Address], Connection]
    ) -> None:
        super().__init__(f"the master of {master}", connection_to)
        self._sentinels = sentinels
        self._master = master

    def _asked(self) -> Sequence[Address]:
        return self._sentinels

    async def _ask(self, connection: Connection) -> Address | None:
        answer = await _command(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
        return None if answer is None else (answer[0].decode(), int(answer[1]))


class ClusterServers(_FoundServer):
    """The node of a cluster that owns one slot."""

    def __init__(
        self, nodes: Sequence[Address], slot: int, connection_to: Callable[[Address], Connection]
    ) -> None:
        super().__init__(f"the owner of slot {slot}", connection_to)
        self._nodes = nodes
        self._slot = slot
        self._learned: list[Address] = []

    def moved(self, address: Address) -> bool:
        """Use the node that another node has named."""
        self._use(address)
        return True

    def _asked(self) -> Sequence[Address]:
        # The masters of the last answer find the cluster even if all nodes of the URL have been replaced.
        return list(dict.fromkeys([*self._nodes, *self._learned]))[:_MOST_ASKED]

    async def _ask(self, connection: Connection) -> Address | None:
        owner = None
        learned: list[Address] = []
        for first, last, (host, port, *_), *_ in await _command(connection, "CLUSTER", "SLOTS"):
            # A node that does not know its own name stands for the address that it was asked at.
            address = (host.decode() if host else connection.host, int(port))
            learned.append(address)
            if first <= self._slot <= last:
                owner = address
        self._learned = list(dict.fromkeys(learned)) or self._learned
        return owner


async def _command(connection: Connection, *words: str) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()

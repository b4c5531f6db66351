"""Connections that follow the server of our keys when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError as RedisConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from token_service.redis_clients.servers import FixedServer, Servers
from token_service.redis_clients.tls import RedisTls

_TRIES: Final = 20
_AGAIN: Final = 0.05
"""Seconds before a command is sent again whose keys are just moving."""


class ServerLeftError(RedisConnectionError):
    """The server no longer has our keys. The command was not executed, and another connection finds the right server."""


class FollowingConnection(Connection):
    """A connection to the server that `servers` names at the time of connecting."""

    def __init__(self, *, servers: Servers, tls: RedisTls | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._servers = servers
        self._tls = tls

    async def connect(self) -> None:
        """Connect. An open connection to an earlier server is replaced."""
        if self.is_connected and self._servers.current not in (None, (self.host, self.port)):
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        self.host, self.port = await self._servers.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self._servers.forget((self.host, self.port))
            raise

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close the connection."""
        self._servers.forget((self.host, self.port))
        await super().disconnect(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raises `ServerLeftError` if another server has our keys now."""
        try:
            return await super().read_response(*args, **options)
        except MovedError as moved:
            if not self._servers.moved((moved.host or self.host, moved.port)):
                raise
            await self.disconnect(nowait=True)
            raise ServerLeftError from moved
        except (ReadOnlyError, ClusterDownError) as error:
            await self.disconnect(nowait=True)
            raise ServerLeftError from error
        except ResponseError as error:
            # Redis 6 reports a write of a script in a replica like this.
            if "-READONLY" not in str(error):
                raise
            await self.disconnect(nowait=True)
            raise ServerLeftError from ReadOnlyError()


class FollowingTlsConnection(FollowingConnection, SSLConnection):
    """A `FollowingConnection` with TLS."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        if not self._tls:
            return super()._connection_arguments()
        return {"host": self.host, "port": self.port, "ssl": self._tls.context()}


class SlotRedis(Redis):
    """A client for the keys of one slot of a cluster, also while the slot is moving."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._texts: dict[str, str | bytes] = {}
        """The scripts by their digests: the node that the slot moves to may lack them."""

    def register_script(self, script: str | bytes) -> AsyncScript:  # type: ignore[override]  # this client is never synchronous
        """Return a callable script."""
        made = super().register_script(script)
        self._texts[made.sha] = script
        return made

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command where its keys are."""
        for last in range(_TRIES - 1, -1, -1):
            try:
                return await self._execute(*args, **options)
            except TryAgainError:
                # Some of the keys have moved and some have not.
                if not last:
                    raise
                await asyncio.sleep(_AGAIN)
        raise AssertionError

    async def _execute(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except AskError as ask:
            return await self._ask(ask, *args, **options)

    async def _ask(self, ask: AskError, *args: Any, **options: Any) -> Any:
        """Execute a command at the node that a slot is moving to."""
        pool = self.connection_pool
        servers: Servers = pool.connection_kwargs["servers"]
        host = ask.host or (await servers.find())[0]
        there = {**pool.connection_kwargs, "servers": FixedServer((host, ask.port))}
        connection: Any = pool.connection_class(**there)
        try:
            await connection.connect()
            try:
                return await self._asked(connection, *args, **options)
            except NoScriptError:
                await connection.send_command("SCRIPT", "LOAD", self._texts[args[1]])
                await connection.read_response()
                return await self._asked(connection, *args, **options)
        finally:
            await connection.disconnect(nowait=True)

    async def _asked(self, connection: Any, *args: Any, **options: Any) -> Any:
        await connection.send_packed_command(connection.pack_commands([("ASKING",), args]))
        await connection.read_response()
        return await self.parse_response(connection, args[0], **options)

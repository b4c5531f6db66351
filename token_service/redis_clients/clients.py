"""Clients for the servers of a URL."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from token_service.errors import ConfigurationError
from token_service.redis_clients.connections import (
    FollowingConnection,
    FollowingTlsConnection,
    SlotRedis,
)
from token_service.redis_clients.servers import (
    Address,
    ClusterServers,
    FixedServer,
    SentinelServers,
    Servers,
)
from token_service.redis_clients.tls import RedisTls
from token_service.urls import RedisKind, RedisUrl

_CONNECT_TIMEOUT: Final = 0.5
_MAX_CONNECTIONS: Final = 32
_NAME: Final = "token-service"


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """The servers and the proofs of this client."""

    url: RedisUrl
    password: str | None = field(default=None, repr=False)
    """The password of the URL's user, if the URL has none."""
    tls: RedisTls = field(default_factory=RedisTls)

    @classmethod
    def of(cls, url: str, password: str | None = None, tls: RedisTls | None = None) -> RedisAccess:
        """Return the access of a URL. Raises `ConfigurationError`."""
        try:
            return cls(RedisUrl.parse(url), password, tls or RedisTls())
        except ValueError as error:
            raise ConfigurationError(f"the URL of Redis can't be used ({error})") from None


class RedisClients:
    """The clients of one user of Redis. They connect on first use."""

    def __init__(self, access: RedisAccess) -> None:
        """Check the options and the files. Raises `ConfigurationError`."""
        self._url = access.url
        try:
            self._options = _options(access)
            self._to_server(FixedServer(("localhost", 0)))
        except (ValueError, TypeError):  # the text of the error may repeat a part of the URL
            raise ConfigurationError(f"{access.url} has an option that can't be used") from None
        if access.tls:
            access.tls.context()
        self._clients: dict[int, Redis] = {}

    def at(self, key: str) -> Redis:
        """Return the client for a key and all keys of its slot."""
        slot = self._slot(key)
        if slot not in self._clients:
            self._clients[slot] = self._client(slot)
        return self._clients[slot]

    def server(self, key: str) -> str:
        """Return the server that has a key, as `host:port` or `unix:path`; empty if it is not known now."""
        client = self._clients.get(self._slot(key))
        if client is None:
            return ""
        options = client.connection_pool.connection_kwargs
        if self._url.kind is RedisKind.SOCKET:
            return f"unix:{options['path']}"
        address = options["servers"].current
        return "" if address is None else f"{address[0]}:{address[1]}"

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))

    def _slot(self, key: str) -> int:
        return key_slot(key.encode()) if self._url.kind is RedisKind.CLUSTER else 0

    def _client(self, slot: int) -> Redis:
        url, kind = self._url, self._url.kind
        options = dict(self._options)
        if kind is not RedisKind.SOCKET:
            options["servers"] = self._servers(slot)
        pool = BlockingConnectionPool(
            # One retry, for an idle connection that Redis has closed, or that leads to a server that was replaced.
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
            # More commands wait for a connection, as long as their time limit allows.
            max_connections=_MAX_CONNECTIONS,
            timeout=None,
            **options,
        )
        return (SlotRedis if url.kind is RedisKind.CLUSTER else Redis).from_pool(pool)

    def _servers(self, slot: int) -> Servers:
        url = self._url
        match url.kind:
            case RedisKind.SENTINEL:
                return SentinelServers(url.addresses, url.master, self._to_sentinel)
            case RedisKind.CLUSTER:
                return ClusterServers(url.addresses, slot, self._to_node)
            case _:
                return FixedServer(url.addresses[0])

    def _to_server(self, servers: Servers) -> Connection:
        options = dict(self._options)
        if self._url.kind is not RedisKind.SOCKET:
            options["servers"] = servers
        connection: Connection = options.pop("connection_class")(**options)
        return connection

    def _to_node(self, address: Address) -> Connection:
        return self._to_server(FixedServer(address))

    def _to_sentinel(self, address: Address) -> Connection:
        options = dict(self._options)
        for name in ("client_name", "username", "password", "db"):
            options.pop(name, None)
        return options.pop("connection_class")(  # type: ignore[no-any-return]
            servers=FixedServer(address),
            username=self._url.sentinel_username,
            password=self._url.sentinel_password,
            **options,
        )

    def __repr__(self) -> str:
        return f"RedisClients({str(self._url)!r})"


def _options(access: RedisAccess) -> dict[str, Any]:
    """Return the options of connections. Raises `ValueError` for one that can't be used."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        # The timeout of the client can swallow a cancellation that arrives while a command is sent
        # (asyncio.wait_for before Python 3.12). The callers limit the time of each operation instead.
        "socket_timeout": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "client_name": _NAME,
        "driver_info": None,
        **parse_url(access.url.driver_url),
    }
    if access.password is not None:
        options["password"] = access.password
    if access.url.kind is RedisKind.SOCKET:
        return options
    options.pop("host", None)
    options.pop("port", None)
    if options.pop("connection_class", None) is SSLConnection:
        return {**options, "connection_class": FollowingTlsConnection, "tls": access.tls}
    return {**options, "connection_class": FollowingConnection}

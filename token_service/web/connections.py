"""The connections of the HTTP server: their number, and the time they may be idle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from token_service.core.access.rates import network_of

KEEP_ALIVE: Final = 75
"""Seconds an idle connection stays open. Load balancers keep idle connections for 60 s, so the balancer closes first."""
_SPARE: Final = 32
"""Connections accepted beyond a limit while all connections are busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of connections. Times are in seconds."""

    most: int = 1000
    of_address: int = 100
    """Connections of one IPv4 address or IPv6 /64 network. A further one closes the oldest idle one among them."""
    header_timeout: float = 10.0
    """Time for the header of a request. For the first request it starts with the connection."""
    answer_timeout: float = 30.0
    """Time from a request until its response is written, so a client that does not read its response is disconnected."""
    max_age: float = 300.0
    """Lifetime of a connection. Reconnecting clients spread over new workers."""
    tls_timeout: float = 10.0
    """Time for the handshake of TLS. `header_timeout` and `max_age` start after it."""


class OpenConnection(Protocol):
    """An open connection, or one whose TLS handshake is not done."""

    @property
    def address(self) -> str:
        """The address of the peer."""
        ...

    @property
    def idle(self) -> bool:
        """Whether no request is running."""
        ...

    def close(self) -> None:
        """Close the connection at once."""


class Connections:
    """The open connections of one server.

    A new connection at a limit replaces the oldest idle connection: one of the same address at the limit of the address,
    one of any address at the limit of the server. So idle connections can't keep a client, such as a health check, from
    connecting.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[OpenConnection, None] = {}
        """Connections in the order in which they were opened or last finished a response."""
        self._of_address: dict[str, dict[OpenConnection, None]] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def add(self, connection: OpenConnection) -> bool:
        """Accept a new connection. Returns False if it must be closed, because too many others are busy.

        The limits apply to all connections, and to the connections of the same address. An IPv6 address counts as its /64
        network, because one host has all of it.
        """
        same = self._of_address.setdefault(network_of(connection.address), {})
        if len(same) >= self.limits.of_address:
            _close_oldest_idle(same)
        elif len(self._open) >= self.limits.most:
            _close_oldest_idle(self._open)
        self._open[connection] = None
        same[connection] = None
        return len(self._open) <= self.limits.most + _SPARE and len(same) <= self.limits.of_address + _SPARE

    def touch(self, connection: OpenConnection) -> None:
        """Note that a connection was just used."""
        for connections in (self._open, self._of_address.get(network_of(connection.address), {})):
            if connection in connections:
                del connections[connection]
                connections[connection] = None

    def discard(self, connection: OpenConnection) -> None:
        """Forget a connection that is closed."""
        self._open.pop(connection, None)
        network = network_of(connection.address)
        same = self._of_address.get(network)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._of_address[network]


class Connection(H11Protocol):
    """One connection with time limits.

    It is closed if the client does not send a complete header or read a response in time. At the age limit it is closed
    at once if no request is running, else after the response.
    """

    def __init__(self, among: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._among = among
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_answer = False
        self.address = ""

    @property
    def idle(self) -> bool:
        """Whether no request is running."""
        cycle: Any = self.cycle  # None before the first request, although its declared type excludes None
        return cycle is None or cycle.response_complete

    def close(self) -> None:
        """Close the connection at once."""
        self._among.discard(self)
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Start to wait for a header."""
        super().connection_made(transport)
        self._age_timer = self.loop.call_later(self._among.limits.max_age, self.shutdown)
        self.address = self.client[0] if self.client is not None else ""
        self._await_header()
        if not self._among.add(self):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._among.discard(self)
        self._age_timer.cancel()
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait for the response to a request that has begun, or for the rest of a header."""
        super().data_received(data)
        if not self.idle:
            self._await_answer()
        elif self._timer is None and not self.transport.is_closing():
            self._await_header()

    def send_400_response(self, msg: str) -> None:
        """Answer input that breaks HTTP. Only end the connection if the response to the request has begun.

        The body of a running request can break HTTP, too. The application gets a disconnect: uvicorn would log a trace
        when it answers after this response. So it would for HEAD, whose response has no body.
        """
        can_answer = self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}
        if not self.idle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            can_answer = can_answer and self.scope["method"] != "HEAD"
        if can_answer:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Note that the connection is idle, or wait for the next response."""
        self._stop_timer()
        super().on_response_complete()
        self._among.touch(self)
        if not self.idle:  # the next request had already arrived
            self._await_answer()

    def _await_header(self) -> None:
        self._timer = self.loop.call_later(self._among.limits.header_timeout, self.close)

    def _await_answer(self) -> None:
        if not self._awaits_answer:
            self._stop_timer()
            self._awaits_answer = True
            self._timer = self.loop.call_later(self._among.limits.answer_timeout, self.close)

    def _stop_timer(self) -> None:
        self._awaits_answer = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close_oldest_idle(connections: dict[OpenConnection, None]) -> None:
    oldest = next((connection for connection in connections if connection.idle), None)
    if oldest is not None:
        oldest.close()

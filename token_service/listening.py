"""Sockets bound to every address of a host name, all with the same port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

_LACKING: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""Errors of a machine without IPv6 (or without IPv4)."""
_LOCALHOST: Final[Sequence[tuple[int, tuple[object, ...]]]] = [
    (socket.AF_INET, ("127.0.0.1", 0)),
    (socket.AF_INET6, ("::1", 0, 0, 0)),
]
"""RFC 6761, section 6.3, independent of the hosts file. gRPC resolves `localhost` to the same addresses."""
_ATTEMPTS: Final = 20


class NodeAddresses(NamedTuple):
    """The addresses that a node listens on, with the bound ports."""

    grpc: str
    http: str
    grpc_token: str
    """The address for callers without a client certificate. Empty: none."""


def bind_all(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Bind all addresses of `host`, such as 127.0.0.1 and ::1 of `localhost`, without listening.

    Port 0 chooses a port that is free for all addresses. An address family that the machine lacks is left out if
    another family can be bound. `reuse_port` lets other sockets bind the same port (SO_REUSEPORT). Raises `OSError`.
    """
    targets = _LOCALHOST
    if host != "localhost":
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets = list(dict.fromkeys((family, target) for family, _, _, _, target in found))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _bind(targets, port, reuse_port=reuse_port)
        except OSError as error:
            # A port that is free in one family may be taken in the other.
            if port or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _bind(
    targets: Sequence[tuple[int, tuple[object, ...]]], port: int, *, reuse_port: bool
) -> list[socket.socket]:
    bound: list[socket.socket] = []
    lacking: OSError | None = None
    with ExitStack() as stack:
        for family, (host, _, *rest) in targets:
            try:
                # With the protocol named, asyncio sets TCP_NODELAY. Without it the body of a response, which follows its
                # header in a second packet, waits for a delayed acknowledgment, about 40 ms.
                holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if reuse_port:
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                holder.bind((host, port, *rest))
            except OSError as error:
                if error.errno not in _LACKING:
                    raise
                lacking = error
                continue
            port = holder.getsockname()[1]
            bound.append(holder)
        if not bound and lacking is not None:
            raise lacking
        stack.pop_all()  # from here on the caller owns the sockets
    return bound

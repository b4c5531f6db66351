"""File descriptors: as many as the system gives, shared out so that connections never take the last one.

A process without descriptors can't open its database, read its certificates or answer a health check. So it accepts
no more connections than leave enough for that.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from token_service.errors import ConfigurationError

_RESERVED: Final = 128
"""Descriptors for what is open besides connections: database files, pipes, sockets that listen, keys, libraries."""
_MOST: Final = 2**20
"""As many as are asked for where there is no limit."""
_MAX_HTTP: Final = 1000
_MAX_GRPC: Final = 10_000
_FEWEST: Final = 64
"""Connections without which starting makes no sense."""


@dataclass(frozen=True, slots=True)
class ConnectionShares:
    """How many connections each server of a process may accept."""

    grpc: int
    http: int


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files as far as it may; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS allows fewer than it says
        return soft
    return wanted


def share_connections(descriptors: int, *, pool_size: int, max_streams: int) -> ConnectionShares:
    """Share out `descriptors`, after what the process needs itself and a database pool of `pool_size`.

    `max_streams`: each of so many streams may come over a connection of its own. Raises `ConfigurationError` if next
    to nothing is left.
    """
    free = descriptors - _RESERVED - pool_size
    if free < _FEWEST:
        raise ConfigurationError(
            f"the limit of open files is {descriptors}, which leaves {max(0, free)} connections; raise it to at least "
            f"{_RESERVED + pool_size + _FEWEST} (ulimit -n, LimitNOFILE=)"
        )
    http = min(_MAX_HTTP, free // 4)
    return ConnectionShares(grpc=min(max(_MAX_GRPC, 2 * max_streams), free - http), http=http)

"""The limit of file descriptors, and the share of it that connections may use.

A process without free descriptors can't open its database, read its certificates or answer a health check. Its
servers therefore accept only as many connections as leave descriptors for these tasks.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from token_service.errors import ConfigurationError

_RESERVED: Final = 128
"""Descriptors for everything but connections: database files, pipes, listening sockets, keys, libraries."""
_MOST: Final = 2**20
"""Descriptors requested if the system sets no limit."""
_MAX_HTTP: Final = 1000
_MAX_GRPC: Final = 10_000
_FEWEST: Final = 64
"""The fewest connections a node starts with."""


@dataclass(frozen=True, slots=True)
class ConnectionShares:
    """The number of connections each server of a process may accept."""

    grpc: int
    http: int


def raise_descriptor_limit() -> int:
    """Raise the limit of open files of this process to its hard limit, and return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS allows fewer than its hard limit
        return soft
    return wanted


def share_connections(descriptors: int, *, pool_size: int, max_streams: int) -> ConnectionShares:
    """Divide the descriptors left after the reserve and a database pool of `pool_size` among the servers.

    Each of `max_streams` streams may use its own connection. Raises `ConfigurationError` if fewer than 64 connections
    are left.
    """
    free = descriptors - _RESERVED - pool_size
    if free < _FEWEST:
        raise ConfigurationError(
            f"the limit of open files is {descriptors}, which leaves {max(0, free)} connections; raise it to at least "
            f"{_RESERVED + pool_size + _FEWEST} (ulimit -n, LimitNOFILE=)"
        )
    http = min(_MAX_HTTP, free // 4)
    return ConnectionShares(grpc=min(max(_MAX_GRPC, 2 * max_streams), free - http), http=http)

"""Loopback ports that no other process takes between choosing and binding.

Binding to port 0 and closing would return a port of the range that the kernel uses for outgoing connections, so any
client could take it first. These ports are outside of that range. A lock file per port keeps parallel test runs apart
for as long as this process lives.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_ENOUGH = 1000


def _ports() -> range:
    """Return the usable ports: usually some below the range of outgoing connections, which begins at 32768."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        first, last = (int(word) for word in text.split())
    except (OSError, ValueError):  # not Linux, where the range begins at 49152
        first, last = 32_768, 65_535
    candidates = (
        range(15_000, min(32_000, first)),
        range(5_000, min(32_000, first)),
        range(last + 1, 65_536),
    )
    return next((ports for ports in candidates if len(ports) >= _ENOUGH), range(15_000, 32_000))


_PORTS = _ports()
_held: dict[int, int] = {}  # port -> descriptor of its locked file


def _lock(port: int) -> int | None:
    directory = Path(tempfile.gettempdir()) / f"token-service-test-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not prevent a server
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(*, and_above: int = 0) -> int:
    """Return a loopback TCP port that belongs to this process until it ends or calls `release_port`.

    With `and_above`, the port that is so many above belongs to this process, too; it is released on its own.
    """
    for _ in range(10_000):
        port = random.choice(_PORTS)
        if and_above and port + and_above not in _PORTS:
            continue
        if _take(port):
            if not and_above or _take(port + and_above):
                return port
            release_port(port)
    raise RuntimeError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")


def _take(port: int) -> bool:
    if port in _held:
        return False
    descriptor = _lock(port)
    if descriptor is None:
        return False
    if not _is_free(port):
        os.close(descriptor)
        return False
    _held[port] = descriptor
    return True


def release_port(port: int) -> None:
    """Return a port. Do nothing if this process does not hold it."""
    descriptor = _held.pop(port, None)
    if descriptor is not None:
        os.close(descriptor)

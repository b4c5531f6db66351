"""Look-ups of host names, bounded in number."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from token_service.fetching.failure import FetchError

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host for connections to a port. Raises `FetchError`."""

MAX_LOOK_UPS: Final = 8
"""Most look-ups at the same time. One for a name whose servers do not answer lasts until the system gives up."""


class SystemResolver:
    """Look-ups by the system, each in a daemon thread, at most one for a host and port at the same time.

    Daemon threads, because the process must not wait at its end for servers that do not answer.
    """

    def __init__(self, look_up: Callable[[str, int], Sequence[str]] | None = None) -> None:
        self._look_up = look_up or _addresses_of
        self._running: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host. Raises `FetchError`."""
        key = host, port
        future = self._running.get(key)
        if future is None:
            if len(self._running) >= MAX_LOOK_UPS:
                raise FetchError(f"{MAX_LOOK_UPS} look-ups of other host names have not ended yet")
            future = asyncio.get_running_loop().create_future()
            thread = threading.Thread(
                target=self._run, args=(future, host, port), name="resolve", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                raise FetchError(f"no thread to look up {host}: {error}") from None
            self._running[key] = future
            future.add_done_callback(lambda done: self._ended(key, done))
        # A cancelled caller must not cancel the look-up: its thread goes on, and still counts.
        await asyncio.wait([future])
        try:
            return future.result()
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{host} can't be resolved: {error}") from None

    def _run(self, future: asyncio.Future[Sequence[str]], host: str, port: int) -> None:
        try:
            found = self._look_up(host, port)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self._deliver(future, future.set_exception, error)
        else:
            self._deliver(future, future.set_result, found)

    @staticmethod
    def _deliver(future: asyncio.Future[Sequence[str]], deliver: Callable[..., None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller waits
            future.get_loop().call_soon_threadsafe(deliver, value)

    def _ended(self, key: tuple[str, int], future: asyncio.Future[Sequence[str]]) -> None:
        del self._running[key]
        if not future.cancelled():
            future.exception()  # marks the failure as retrieved: all callers may have been cancelled


def _addresses_of(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]

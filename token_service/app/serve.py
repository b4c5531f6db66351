"""One node in this process: signals, orderly shutdown and memory settings."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from token_service.app.node import node
from token_service.app.readiness import Colleagues
from token_service.config import Settings
from token_service.listening import NodeAddresses
from token_service.telemetry.board import MetricsShare

_M_MMAP_THRESHOLD: Final = -3
"""From malloc.h."""
_LARGE_BLOCK: Final = 128 * 1024
_KILL_AFTER: Final = 5.0
"""Seconds after the grace period at which a process that still runs is ended."""

logger = logging.getLogger(__name__)

Ready = Callable[[NodeAddresses], None]
"""`ready(addresses)`, with the bound addresses."""


async def serve(
    settings: Settings,
    ready: Ready,
    environ: Mapping[str, str] = os.environ,
    *,
    share: MetricsShare | None = None,
    colleagues: Colleagues | None = None,
) -> None:
    """Run one node until SIGTERM or SIGINT, then stop it in order. SIGHUP makes it load its settings again.

    `share`: the part of this worker in the page of metrics; None: the node has no other workers. `colleagues`: the workers that
    share its ports.

    A stopping node refuses new calls, finishes running calls and ends streams. Raises `ConfigurationError` for a wrong
    environment, and the error of a failed background task.
    """
    stop = asyncio.Event()
    starting = asyncio.current_task()
    assert starting is not None

    def heed() -> None:
        if stop.is_set():
            logger.error("received a second signal: ending at once, without finishing running calls")
            os._exit(1)
        stop.set()
        _end_late(settings.shutdown_grace + _KILL_AFTER)
        if is_starting:
            # The start may wait for a database or for the migration of another node.
            starting.cancel()

    is_starting = True
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)
    reload = asyncio.Event()
    # Not a handler of the loop: that would disappear with the loop, and a SIGHUP in the last moments of a stop would kill
    # the process.
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload.set))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked since the start of the process
    try:
        async with node(settings, environ, share, reload, colleagues) as addresses:
            is_starting = False
            _settle_memory()
            ready(addresses)
            await stop.wait()
            logger.info("stopping")
    except asyncio.CancelledError:
        if not (is_starting and stop.is_set()):
            raise
        starting.uncancel()
        logger.info("stopped before the start was complete")
    except ExceptionGroup as failures:
        # A node runs in a task group; one of its tasks, or its start, has failed.
        if len(failures.exceptions) > 1:
            raise
        raise failures.exceptions[0] from None
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end_late(seconds: float) -> None:
    """End this process after some seconds, even if its event loop is blocked."""

    def end() -> None:
        logger.error("the node did not stop within %g s: ending at once", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _settle_memory() -> None:
    """Collect garbage rarely, and return freed large blocks to the system.

    Objects that exist now live as long as the process, so the collector ignores them. Calls leave few cycles.
    By default glibc raises the threshold when it frees the first large block, and then keeps the peak memory of
    concurrent large requests and responses.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    with suppress(OSError, AttributeError):  # another C library has no such threshold
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)

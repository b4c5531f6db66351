"""Supervision of several worker processes on the same ports by one parent process.

`cli.serve` calls `supervise` in its own process if more than one worker is configured.

The parent holds the ports, so port 0 becomes the same real port for all, and forks the workers. It never
imports gRPC, starts a thread or runs an event loop: none of them survives a fork. In a worker, `supervise`
returns normally, and the worker continues as a separate service that binds the ports with SO_REUSEPORT.

Workers detect any end of the parent by the end of a pipe that only the parent can write to.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from token_service.app.worker_readiness import WorkerReadiness
from token_service.config import Address, Settings
from token_service.errors import ConfigurationError
from token_service.listening import bind_all
from token_service.telemetry.board import Board, MetricsShare

MAX_FAILED_STARTS: Final = 5
"""Consecutive failed starts of workers after which the service stops, unless a worker still runs."""
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 30.0
_KILL_AFTER: Final = 5.0
"""Seconds after the grace period at which remaining workers are killed."""
_CONFIGURATION_EXIT: Final = 2

logger = logging.getLogger(__name__)


class Worker:
    """The result of `supervise` in a worker process."""

    def __init__(
        self,
        settings: Settings,
        ready_pipe: int,
        number: int,
        readiness: WorkerReadiness,
        share: MetricsShare | None,
    ) -> None:
        self.share = share
        """The part of this worker in the page of metrics; None: there is no page."""
        self.settings = settings
        """The settings with the real ports and `reuse_port`."""
        self.number = number
        self.readiness = readiness
        """The readiness of all workers."""
        self._ready_pipe = ready_pipe

    def ready(self) -> None:
        """Tell the parent that this worker serves."""
        os.write(self._ready_pipe, b"1")
        os.close(self._ready_pipe)


def supervise(settings: Settings, announce: Callable[[Settings], None]) -> Worker | int:
    """Run `settings.workers` workers until SIGTERM or SIGINT.

    Returns a `Worker` in each worker process. Returns the exit code in the parent, after all workers have ended. The
    parent calls `announce` once, with the real addresses, when all workers are ready. Raises `ConfigurationError` if a
    port is taken.
    """
    with ExitStack() as ports:
        assert isinstance(settings.grpc_address, Address), "workers can't share a unix socket"
        grpc_address = _reserve(settings.grpc_address, "GRPC_ADDRESS", ports)
        http_address = _reserve(settings.http_address, "HTTP_ADDRESS", ports)
        token_address = settings.grpc_token_address
        if token_address is not None:
            token_address = _reserve(token_address, "GRPC_TOKEN_ADDRESS", ports)
        metrics_address = settings.metrics_address
        if isinstance(metrics_address, Address):
            metrics_address = _reserve(metrics_address, "METRICS_ADDRESS", ports)
        settings = replace(
            settings.listening(grpc_address, http_address),
            grpc_token_address=token_address,
            metrics_address=metrics_address,
            reuse_port=True,
        )
        try:
            return _Supervisor(settings, announce).run()
        except _InWorkerError as born:
            return born.worker


def _reserve(address: Address, name: str, stack: ExitStack) -> Address:
    """Bind a port without listening: this reserves it, but connections reach only listening workers."""
    try:
        if address.port:
            # Another process that already listens on this port would share its connections.
            for probe in bind_all(address.host, address.port):
                probe.close()
        holders = bind_all(address.host, address.port, reuse_port=True)
    except OSError as error:
        raise ConfigurationError(
            f"TOKEN_SERVICE_{name}: can't listen on {address} ({error.strerror}); choose another with "
            f"--{name.lower().replace('_', '-')} HOST:PORT"
        ) from None
    for holder in holders:
        stack.enter_context(holder)
    return Address(address.host, holders[0].getsockname()[1])


class _InWorkerError(BaseException):
    """Unwinds the parent's stack in a new worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker


@dataclass(slots=True)
class _Slot:
    number: int
    pid: int = 0
    """0: not running."""
    is_ready: bool = False
    ready_pipe: int = -1
    """The pipe on which the worker reports that it is ready; -1: closed."""
    failures: int = 0
    """Consecutive ends of the worker before it was ready, or soon after."""
    started: float = 0.0
    start_at: float = 0.0
    """The time of the worker's next start."""


class _Supervisor:
    def __init__(self, settings: Settings, announce: Callable[[Settings], None]) -> None:
        self._settings = settings
        self._announce = announce
        self._slots = [_Slot(number) for number in range(settings.workers)]
        has_page = settings.shows_metrics
        self._board = Board(settings.workers) if has_page else None
        self._readiness = WorkerReadiness(settings.workers)
        self._failed_starts = 0
        self._announced = False
        self._exit_code = 0
        self._stop_signals: list[int] = []
        self._reload = False
        self._kill_at: float | None = None
        """The time at which to kill remaining workers; None: not stopping."""

    def run(self) -> int:
        self._selector = selectors.DefaultSelector()
        self._alive_read, self._alive_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._old_handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)
        }
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        while not self._stopping or self._running():
            self._start_due()
            self._wait()
            self._reap()
            self._obey()
            self._kill_stragglers()
        self._leave()
        os.close(self._alive_read)
        return self._exit_code

    @property
    def _stopping(self) -> bool:
        return self._kill_at is not None

    def _running(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.pid]

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif number != signal.SIGCHLD:
            self._stop_signals.append(number)

    def _obey(self) -> None:
        """Handle signals: SIGHUP goes to the workers, the first other one stops them, further ones kill them."""
        if self._reload:
            self._reload = False
            logger.info("SIGHUP: the workers load their settings again")
            for slot in self._running():
                os.kill(slot.pid, signal.SIGHUP)
        while self._stop_signals:
            number = signal.Signals(self._stop_signals.pop(0))
            if self._stopping:
                self._kill_at = 0.0
            else:
                logger.info("%s: stopping the workers", number.name)
                self._stop()

    def _stop(self) -> None:
        self._kill_at = time.monotonic() + self._settings.shutdown_grace + _KILL_AFTER
        for slot in self._running():
            os.kill(slot.pid, signal.SIGTERM)  # the worker is not reaped yet, so the pid is valid

    def _kill_stragglers(self) -> None:
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return
        self._kill_at = time.monotonic() + _KILL_AFTER
        for slot in self._running():
            logger.error("killing worker %d (pid %d): it did not stop in time", slot.number, slot.pid)
            self._exit_code = self._exit_code or 1
            os.kill(slot.pid, signal.SIGKILL)

    def _wait(self) -> None:
        """Wait for a signal, for a ready worker, or until a start or a kill is due."""
        due = [slot.start_at for slot in self._startable()]
        if self._kill_at is not None:
            due.append(self._kill_at)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(timeout):
            if key.fd == self._wake_read:
                os.read(self._wake_read, 4096)
            else:
                self._hear(key.data)

    def _startable(self) -> list[_Slot]:
        if self._stopping:
            return []
        # Start the first worker alone: it may prepare the database, and only one process reports a wrong setting.
        first_is_ready = self._announced or self._slots[0].is_ready
        return [slot for slot in (self._slots if first_is_ready else self._slots[:1]) if not slot.pid]

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._startable():
            if slot.start_at <= now:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        ready_read, ready_write = os.pipe()
        stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(
            signal.SIG_BLOCK, stop_signals
        )  # blocked until the child has removed the parent's handlers
        pid = os.fork()
        if pid == 0:
            os.close(ready_read)
            self._become_worker()
            share = None if self._board is None else MetricsShare(self._board, slot.number)
            raise _InWorkerError(Worker(self._settings, ready_write, slot.number, self._readiness, share))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
        os.close(ready_write)
        slot.pid, slot.is_ready, slot.ready_pipe = pid, False, ready_read
        slot.started = time.monotonic()
        self._selector.register(ready_read, selectors.EVENT_READ, slot)

    def _become_worker(self) -> None:
        self._leave()
        # Start the thread before the signals are unblocked, so that it inherits the blocked mask: a signal delivered to
        # this thread would wake no event loop.
        patience = self._settings.shutdown_grace + _KILL_AFTER
        threading.Thread(target=_end_with_parent, args=(self._alive_read, patience), daemon=True).start()
        # SIGINT stays blocked: Ctrl-C reaches the whole process group, and the parent's SIGTERM is enough. SIGHUP stays
        # blocked until the worker has a handler for it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _leave(self) -> None:
        """Release the handlers and descriptors that only the parent needs.

        SIGHUP is ignored from now on: it must not kill a parent that is about to end, nor a worker before it has a handler.
        """
        signal.set_wakeup_fd(-1)
        for number, handler in self._old_handlers.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else handler)
        self._selector.close()
        pipes = [slot.ready_pipe for slot in self._slots if slot.ready_pipe >= 0]
        for descriptor in (self._alive_write, self._wake_read, self._wake_write, *pipes):
            os.close(descriptor)

    def _hear(self, slot: _Slot) -> None:
        """Read from the pipe of a worker that is ready, or that has ended."""
        slot.is_ready = os.read(slot.ready_pipe, 1) == b"1"
        self._close_ready_pipe(slot)
        if not slot.is_ready:
            return
        self._failed_starts = 0
        logger.info("worker %d is ready (pid %d)", slot.number, slot.pid)
        if not self._announced and not self._stopping and all(slot.is_ready for slot in self._slots):
            self._announced = True
            self._announce(self._settings)

    def _close_ready_pipe(self, slot: _Slot) -> None:
        if slot.ready_pipe >= 0:
            self._selector.unregister(slot.ready_pipe)
            os.close(slot.ready_pipe)
            slot.ready_pipe = -1

    def _reap(self) -> None:
        for slot in self._running():
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._close_ready_pipe(slot)
                was_ready, slot.is_ready, slot.pid = slot.is_ready, False, 0
                if self._board is not None:
                    self._board.segments[slot.number].leave()
                self._ended(slot, pid, os.waitstatus_to_exitcode(status), was_ready=was_ready)

    def _ended(self, slot: _Slot, pid: int, code: int, *, was_ready: bool) -> None:
        if self._stopping:
            if code not in {0, -signal.SIGTERM}:
                self._exit_code = self._exit_code or 1
            return
        now = time.monotonic()
        if was_ready and now - slot.started > _LONGEST_DELAY:
            slot.failures = 0
        delay = min(_FIRST_DELAY * 2**slot.failures, _LONGEST_DELAY)
        slot.failures += 1
        slot.start_at = now + delay
        self._failed_starts += not was_ready
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if not was_ready and (
            (code == _CONFIGURATION_EXIT and not self._announced)
            or (self._failed_starts >= MAX_FAILED_STARTS and not self._running())
        ):
            logger.error("worker %d (pid %d) can't start (%s)", slot.number, pid, how)
            self._exit_code = code if code > 0 else 1
            self._stop()
        else:
            logger.error(
                "worker %d (pid %d) ended (%s); starting another in %.1f s", slot.number, pid, how, delay
            )


def _end_with_parent(alive: int, patience: float) -> None:
    """Stop this process when the parent has ended: only the parent can write to `alive`, and the parent never writes."""
    os.read(alive, 1)
    logger.error("the supervisor has ended; stopping this worker")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os.kill(os.getpid(), signal.SIGKILL)

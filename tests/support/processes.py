"""The service as real processes."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import preloaded
from tests.support.deadline import DeadlineExceededError, eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_HTTP_OK = 200


def http_status(address: str, path: str, *, timeout: float = 30, tls: bool = False) -> int | None:
    """Return the status of `GET path` at `host:port`; None without an answer within `timeout` seconds.

    With `tls` the certificate is not verified, as by the health checks of load balancers.
    """
    connection = http.client.HTTPConnection(address, timeout=timeout)
    if tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(address, timeout=timeout, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class ServiceProcess:
    """One node: `token-service serve` with its own ports, data directory and settings.

    `env` has its `TOKEN_SERVICE_*` settings; it inherits none from the environment of the tests. Addresses, data
    directory and log stay the same over restarts, so `kill` and `start` show what survives a crash.

        with ServiceProcess(env={"TOKEN_SERVICE_DATABASE_URL": url}) as service:
            channel = grpc.aio.insecure_channel(service.grpc_address)
    """

    def __init__(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        ready_timeout: float = 60,
        command: Sequence[str] | None = None,
    ) -> None:
        """Configure the node. `command` replaces `token-service serve`."""
        # Workers are started by the node, and other variables than the service's count when the interpreter starts.
        self._preloaded = (
            preloaded.is_possible()
            and command is None
            and "--workers" not in args
            and all(
                name.startswith("TOKEN_SERVICE_") and name != "TOKEN_SERVICE_WORKERS" for name in env or ()
            )
        )
        program = () if self._preloaded else (sys.executable, "-m", "token_service")
        self._command = [*(command or (*program, "serve")), *args]
        self._settings = dict(env or {})
        self._ready_timeout = ready_timeout
        self._given_data_dir = data_dir
        self._scratch: Path | None = None
        self._process: ManagedProcess | None = None
        self._grpc_port = 0
        self._http_port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    @property
    def grpc_address(self) -> str:
        """`host:port` of the gRPC edge; fixed once started."""
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def http_address(self) -> str:
        """`host:port` of the HTTP edge; fixed once started."""
        return f"127.0.0.1:{self._http_port}"

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP edge, without a trailing slash."""
        return f"http://{self.http_address}"

    @property
    def data_dir(self) -> Path:
        """Directory of the node's files."""
        return self._given_data_dir or self._directory() / "data"

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """Process id of the node, or of the supervisor of several workers."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of a node that ended by itself; None while it runs and before its start."""
        return self._process.exit_code if self._process is not None else None

    def children(self) -> list[int]:
        """Return the process ids of the workers."""
        return self._process.children() if self._process is not None else []

    def start(self, *, wait: bool = True) -> None:
        """Start, and with `wait` return when the node is ready. Raise with the end of its log if it is not."""
        assert not self.running, "already running"
        directory = self._directory()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")
        }
        self._process = ManagedProcess(
            self._command,
            log=directory / "log",
            env={
                **inherited,
                "PYTHONUNBUFFERED": "1",
                "TOKEN_SERVICE_GRPC_ADDRESS": self.grpc_address,
                "TOKEN_SERVICE_HTTP_ADDRESS": self.http_address,
                "TOKEN_SERVICE_DATA_DIR": str(self.data_dir),
                "TOKEN_SERVICE_ISSUER": "http://127.0.0.1:8080",  # nodes that share a database share it
                **self._settings,
            },
            preloaded=self._preloaded,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return when `/readyz` answers 200. Raise with the end of the log if it does not or the node ends."""
        try:
            eventually_sync(self._is_ready, timeout=self._ready_timeout)
        except DeadlineExceededError:
            raise RuntimeError(
                f"not ready within {self._ready_timeout} s:\n{self.log_text()[-8000:]}"
            ) from None

    def terminate(self, timeout: float = 60) -> int:
        """Send SIGTERM, wait, and return the exit code. Raise `TimeoutError` with the log if it does not end."""
        assert self._process is not None
        return self._process.terminate(timeout)

    def kill(self) -> None:
        """Send SIGKILL to the node and its workers."""
        assert self._process is not None
        self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process only."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        """Wait until the node ends by itself and return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def pause(self) -> None:
        """Send SIGSTOP: connected but silent."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.resume()

    def restart(self) -> None:
        """Call `terminate` and `start`. Addresses and data stay."""
        self.terminate()
        self.start()

    def log_text(self) -> str:
        """Return the standard output and error of all starts."""
        return self._process.log_text() if self._process is not None else ""

    def close(self) -> None:
        """Kill a running process and delete its files, except for a given `data_dir`."""
        if self._process is not None:
            self._process.kill()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
            release_port(self._grpc_port)
            release_port(self._http_port)

    def _directory(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="token-service-node-"))
            self._grpc_port = free_port()
            self._http_port = free_port()
        return self._scratch

    def _is_ready(self) -> bool:
        if not self.running:
            raise RuntimeError(f"ended with {self.exit_code} before it was ready:\n{self.log_text()[-8000:]}")
        tls = self._settings.get("TOKEN_SERVICE_HTTP_TLS") == "true"
        return http_status(self.http_address, "/readyz", tls=tls) == _HTTP_OK

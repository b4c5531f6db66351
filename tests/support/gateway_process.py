"""The gateway as a real process."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.deadline import DeadlineExceededError, eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.processes import http_status

if TYPE_CHECKING:
    import signal
    from types import TracebackType

ISSUER = "http://127.0.0.1:8080"
"""The issuer of `ServiceProcess`."""


class GatewayProcess:
    """`token-service gateway` beside a token service, with a unix socket for gRPC and a port for HTTP.

    `rest` is TOML after the tables for addresses, issuer and audience: further tables, or first of all keys of `[tokens]`.

        with ServiceProcess() as service, GatewayProcess(service.grpc_address, audience="api") as gateway:
            channel = grpc.insecure_channel(gateway.grpc_address)
    """

    def __init__(
        self,
        target: str,
        *,
        audience: str,
        issuer: str = ISSUER,
        of_issuer: str = "",
        rest: str = "",
        ready_timeout: float = 60,
    ) -> None:
        self._target = target
        self._issuer = issuer
        self._audience = audience
        self._of_issuer = of_issuer
        self._ready_timeout = ready_timeout
        self.directory = Path(tempfile.mkdtemp(prefix="token-gateway-"))
        self._http_port = free_port()
        self._process: ManagedProcess | None = None
        self.configure(rest)

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

    @property
    def grpc_address(self) -> str:
        """gRPC target of the unix socket."""
        return f"unix:{self.directory}/grpc.sock"

    @property
    def http_address(self) -> str:
        """`host:port` of `/auth`, health and metrics."""
        return f"127.0.0.1:{self._http_port}"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "gateway.toml"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def configure(self, rest: str) -> None:
        """Write the configuration file. A running gateway notices."""
        draft = self.config.with_suffix(".new")
        draft.write_text(
            f"""\
[listen]
grpc = "{self.grpc_address}"
http = "{self.http_address}"
[reload]
interval = 0.2
[issuer]
issuer = "{self._issuer}"
target = "{self._target}"
{self._of_issuer}
[tokens]
audience = "{self._audience}"
{rest}
"""
        )
        draft.rename(self.config)

    def start(self) -> None:
        """Start, and return when the gateway is ready. Raise with the end of its log if it is not."""
        self._process = ManagedProcess(
            [sys.executable, "-m", "token_service", "gateway", "--config", self.config],
            log=self.directory / "log",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            eventually_sync(self._is_ready, timeout=self._ready_timeout)
        except DeadlineExceededError:
            raise RuntimeError(
                f"not ready within {self._ready_timeout} s:\n{self.log_text()[-8000:]}"
            ) from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self, timeout: float = 60) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        assert self._process is not None
        return self._process.terminate(timeout)

    def log_text(self) -> str:
        """Return the standard output and error of all starts."""
        return self._process.log_text() if self._process is not None else ""

    def close(self) -> None:
        """Kill a running process and delete its files."""
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        release_port(self._http_port)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if not self._process.running:
            raise RuntimeError(f"ended before it was ready:\n{self.log_text()[-8000:]}")
        return http_status(self.http_address, "/readyz") == 200

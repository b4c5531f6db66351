"""What the reverse proxies of tests have in common: a directory, a process, a port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


class ProxyProcess:
    """A proxy that listens at `port` of 127.0.0.1. Its files and its log are in `directory`.

    Subclasses return the command, which may write files first.
    """

    def __init__(self, configuration: str) -> None:
        """`configuration`: text with {directory} and {port}, which are replaced."""
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="token-gateway-proxy-"))
        self.configuration = configuration.replace("{directory}", str(self.directory)).replace(
            "{port}", str(self.port)
        )
        self.process: ManagedProcess | None = None

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Return the command that runs the proxy in the foreground."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        try:
            self.process = ManagedProcess(
                self.command(),
                log=self.directory / "log",
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory)},
                cwd=self.directory,
            )
            eventually_sync(self._listens)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the proxy and delete its files. Print the end of its log, which pytest shows if a test failed."""
        if self.process is not None:
            self.process.kill()
            print(self.process.log_tail())
        shutil.rmtree(self.directory, ignore_errors=True)
        release_port(self.port)

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def _listens(self) -> bool:
        assert self.process is not None
        if not self.process.running:
            raise RuntimeError(f"the proxy ended while starting:\n{self.process.log_tail()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

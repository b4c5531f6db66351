"""A real etcd with one member: from PATH, or from Debian's package."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import debian
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    from types import TracebackType

_CACHE = "etcd"


def find_etcd() -> Path:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "etcd-server", ("etcd-server",), _present)
    if found is None:
        raise RuntimeError(
            f"etcd is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install etcd-server | dnf install etcd | brew install etcd"
        )
    return found


def _present() -> Path | None:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{debian.cache(_CACHE)}/usr/bin"))
    found = shutil.which("etcd", path=places)
    return Path(found) if found else None


class Etcd:
    """A store on loopback that keeps its data over `pause` and `resume`."""

    def __init__(self) -> None:
        self._ports = (0, 0)
        self._directory: Path | None = None
        self._process: ManagedProcess | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self._ports[0]}"

    def __enter__(self) -> Self:
        program = find_etcd()
        self._ports = (free_port(), free_port())
        self._directory = directory = Path(tempfile.mkdtemp(prefix="token-service-etcd-"))
        peer = f"http://127.0.0.1:{self._ports[1]}"
        options = {
            "name": "one",
            "data-dir": str(directory / "data"),
            "listen-client-urls": f"http://{self.address}",
            "advertise-client-urls": f"http://{self.address}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"one={peer}",
            "unsafe-no-fsync": "true",
        }
        self._process = ManagedProcess(
            [program, *(f"--{name}={value}" for name, value in options.items())],
            log=directory / "log",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=directory,
        )
        eventually_sync(self._is_healthy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        for port in self._ports:
            release_port(port)

    def pause(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.resume()

    def _is_healthy(self) -> bool:
        assert self._process is not None
        if not self._process.running:
            raise RuntimeError(f"etcd ended while starting:\n{self._process.log_text()[-4000:]}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}/health", timeout=5) as answer,
        ):
            return b'"true"' in answer.read()
        return False

"""A real PgBouncer: from PATH or /usr/sbin, or from Debian's package."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.support import debian
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    from types import TracebackType

_CACHE = "pgbouncer"
_PARTS = ("pgbouncer", "libevent-2.1-7", "libc-ares2")


def find_pgbouncer() -> Path:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "pgbouncer", _PARTS, _present)
    if found is None:
        raise RuntimeError(
            f"PgBouncer is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install pgbouncer | dnf install pgbouncer | brew install pgbouncer"
        )
    return found


def _present() -> Path | None:
    places = os.pathsep.join(
        (os.environ.get("PATH", os.defpath), "/usr/sbin", f"{debian.cache(_CACHE)}/usr/sbin")
    )
    found = shutil.which("pgbouncer", path=places)
    return Path(found) if found else None


class PgBouncer:
    """A pooler in front of the database of a URL, with PgBouncer's defaults except for `pool_mode`."""

    def __init__(self, url: str, *, pool_mode: str) -> None:
        self._upstream = urlsplit(url)
        self._pool_mode = pool_mode
        self._port = 0
        self._directory: Path | None = None
        self._process: ManagedProcess | None = None

    @property
    def url(self) -> str:
        """URL of the database through the pooler, which asks for no password."""
        return f"postgresql+asyncpg://anyone@127.0.0.1:{self._port}/pooled"

    def __enter__(self) -> Self:
        program = find_pgbouncer()
        self._port = free_port()
        self._directory = directory = Path(tempfile.mkdtemp(prefix="token-service-pgbouncer-"))
        there = self._upstream
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"pooled = host={there.hostname} port={there.port} dbname={there.path[1:]} "
            f"user={there.username} password={there.password}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {self._pool_mode}\n"
        )
        user = group = None
        if os.getuid() == 0:  # PgBouncer refuses to run as root
            nobody = pwd.getpwnam("nobody")
            user, group = nobody.pw_uid, nobody.pw_gid
            directory.chmod(0o711)
            os.chown(settings, user, group)
        settings.chmod(0o600)
        libraries = [str(path) for path in debian.cache(_CACHE).glob("usr/lib/*-linux-*")]
        self._process = ManagedProcess(
            [program, settings],
            log=directory / "log",
            env={"PATH": os.environ.get("PATH", os.defpath), "LD_LIBRARY_PATH": os.pathsep.join(libraries)},
            cwd=directory,
            user=user,
            group=group,
        )
        eventually_sync(self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        release_port(self._port)

    def _listens(self) -> bool:
        assert self._process is not None
        if not self._process.running:
            raise RuntimeError(f"PgBouncer ended while starting:\n{self._process.log_text()[-4000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

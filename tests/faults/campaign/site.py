"""The processes of a campaign: two nodes behind proxies, PostgreSQL with its standby, Redis, validators, consumers of
the stream, and the load.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.faults.campaign.certificates import Certificates
from tests.faults.campaign.history import Journal, clock
from tests.faults.campaign.network import Link, Network
from tests.faults.campaign.plan import GRACE, ISSUER, Plan, Size
from tests.faults.campaign.postgres import Pair
from tests.support.libfaketime import MovableClock, find_libfaketime
from tests.support.managed import ManagedProcess
from tests.support.processes import ServiceProcess
from tests.support.redis import RedisServer

NODES = 2
_MODULES = "tests.faults.campaign"


class Program:
    """A restartable program of the harness."""

    def __init__(self, module: str, plan: Plan, clock: MovableClock | None) -> None:
        self.name = plan.name
        self._module = module
        self._plan = plan
        self._environment = clock.environment if clock is not None else {}
        self._process: ManagedProcess | None = None
        self._starts = 0
        self.log = plan.root / f"{plan.name}.log"

    def start(self) -> None:
        """Start the program with a new seed."""
        self._starts += 1
        plan = replace(self._plan, seed=self._plan.seed + self._starts)
        self._process = ManagedProcess(
            [sys.executable, "-m", f"{_MODULES}.{self._module}", plan.text()],
            log=self.log,
            env={**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"},
        )

    @property
    def running(self) -> bool:
        """Whether the process exists, stopped or not."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.exit_code if self._process is not None else None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        assert self._process is not None
        self._process.resume()


class NodeProcess(ServiceProcess):
    """A node of the service, with its name in the history."""

    def __init__(self, name: str, env: dict[str, str], defect: str) -> None:
        command = [
            sys.executable,
            "-m",
            f"{_MODULES}.node",
            *(["--defect", defect] if defect else []),
            "serve",
        ]
        super().__init__(env=env, command=command)
        self.name = name
        self._before = 0

    def start(self, *, wait: bool = True) -> None:
        """Start the node as `ServiceProcess.start` does."""
        self._before = len(self.log_text())
        super().start(wait=wait)

    @property
    def was_ready(self) -> bool:
        """Whether the node was ready since its last start."""
        return "is ready" in self.log_text()[self._before :]


Process = Program | NodeProcess


class Servers:
    """PostgreSQL with its standby, and Redis. Several sites may use them in turn."""

    def __init__(self) -> None:
        self.postgres = Pair()
        self.redis = RedisServer()

    def start(self) -> None:
        """Start all servers."""
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(self.postgres.start), pool.submit(self.redis.start)]:
                started.result()

    def clear(self) -> None:
        """Switch to an empty database and empty Redis."""
        self.postgres.clear()
        self.redis.flushall()

    def close(self) -> None:
        """End all servers."""
        self.postgres.close()
        self.redis.close()


class Site:
    """All processes of a campaign. Entering starts all of them, leaving ends all of them."""

    def __init__(
        self, size: Size, *, bound: float, seed: int, defect: str, servers: Servers | None = None
    ) -> None:
        """`servers`: the servers to use; None: start new ones."""
        self.size = size
        self.bound = bound
        self._seed = seed
        self._defect = defect
        self._stack = AsyncExitStack()
        self._key = b64encode(secrets.token_bytes(32)).decode()
        self._servers = servers
        self.nodes: list[NodeProcess] = []
        self.fronts: list[Link] = []
        """Proxies between validators and nodes."""
        self.backs: list[Link] = []
        """Proxies between nodes and PostgreSQL."""
        self.gateways: list[str] = []
        """Addresses of gateways in front of the nodes. Only a fault uses them."""
        self.validators: list[Program] = []
        self.consumers: Program
        self.load: Program
        self.clocks: dict[str, MovableClock] = {}
        """Clocks by process; empty without libfaketime."""
        self.without_clocks = ""
        """The reason why libfaketime is missing."""
        self.held: set[str] = set()
        """Processes that a fault has ended and that stay down until it is over."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def root(self) -> Path:
        """Directory of history and logs."""
        return self._root

    @property
    def programs(self) -> list[Program]:
        """The programs of the harness."""
        return [*self.validators, self.consumers, self.load]

    @property
    def processes(self) -> Sequence[Process]:
        """All processes except PostgreSQL and Redis."""
        return [*self.nodes, *self.programs]

    def plan(self, name: str, targets: list[str], **fields: object) -> Plan:
        """Return a plan for a program."""
        common = {"window": self.size.window, "bound": self.bound, "directory": str(self._root)}
        return Plan(name=name, targets=targets, **{**common, **fields})  # type: ignore[arg-type]

    async def _start(self) -> None:
        self._make_root()
        self.journal = Journal(self._root / "faults.jsonl")
        self.certificates = Certificates(self._root)
        try:
            library = await asyncio.to_thread(find_libfaketime)
        except RuntimeError as error:
            self.without_clocks = str(error)
        else:
            names = [f"node{n}" for n in range(NODES)] + [f"validators{n}" for n in range(4)]
            self.clocks = {name: MovableClock(library, self._root / f"{name}.clock") for name in names}
        self._stack.callback(self._forget_clocks)
        if self._servers is None:
            self._servers = Servers()
            self._stack.callback(self._servers.close)
            await asyncio.to_thread(self._servers.start)
        self.postgres, self.redis = self._servers.postgres, self._servers.redis
        await asyncio.to_thread(self._servers.clear)
        for number in range(NODES):
            self.certificates.files(number)
        self.network = Network(self._root)
        self._stack.callback(self.network.close)
        await asyncio.to_thread(self._start_nodes)
        self._start_programs()
        for node in self.nodes:
            await asyncio.to_thread(node.wait_ready)

    def _make_root(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="token-service-campaign-")
        self._root = Path(self._stack.enter_context(directory))

    def _start_nodes(self) -> None:
        for number in range(NODES):
            self.backs.append(self.network.link(self.postgres.address))
            node = NodeProcess(f"node{number}", self._environment(number), self._defect)
            self.nodes.append(node)
            self._stack.callback(node.close)
            node.start(wait=False)
        self.postgres.on_change = self.lead_to_primary
        for node in self.nodes:
            self.fronts.append(self.network.link(node.grpc_address))
            self.gateways.append(self.network.gateway(node.grpc_address, 0.8 * self.bound))

    def lead_to_primary(self) -> None:
        """Connect the nodes to the current primary."""
        for back in self.backs:
            back.lead_to(self.postgres.address)

    def _start_programs(self) -> None:
        fronts = [proxy.address for proxy in self.fronts]
        direct = [node.grpc_address for node in self.nodes]
        groups = 4
        for number in range(groups):
            plan = self.plan(
                f"validators{number}",
                fronts if number % 4 < 2 else fronts[::-1],
                kind="sync" if number % 2 else "async",
                count=self.size.validators // groups,
                defect=self._defect,
            )
            self.validators.append(Program("validators", plan, self.clocks.get(plan.name)))
        self.consumers = Program("consumers", self.plan("consumers", fronts), None)
        self.load = Program(
            "load", self.plan("load", direct, count=self.size.cells, seed=self._seed * 100), None
        )
        for program in self.programs:
            self._stack.callback(program.kill)
            program.start()

    def _environment(self, number: int) -> dict[str, str]:
        name = f"node{number}"
        return {
            **(self.clocks[name].environment if name in self.clocks else {}),
            "TOKEN_SERVICE_DATABASE_URL": self.postgres.url(self.backs[number].address),
            "TOKEN_SERVICE_REDIS_URL": self.redis.url,
            **self._settings(number),
        }

    def _settings(self, number: int) -> dict[str, str]:
        certificate, key = self.certificates.files(number)
        return {
            "TOKEN_SERVICE_ISSUER": ISSUER,
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": self._key,
            "TOKEN_SERVICE_AUDIT_KEY": self._key,
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "1s",
            "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "2s",
            "TOKEN_SERVICE_JANITOR_INTERVAL": "3s",
            "TOKEN_SERVICE_STREAM_MAX_AGE": "60s",
            "TOKEN_SERVICE_SHUTDOWN_GRACE": "2s",
            "TOKEN_SERVICE_DATABASE_POOL_SIZE": "5",
            "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": f"{GRACE:.0f}s",
            "TOKEN_SERVICE_TLS_CERT_FILE": str(certificate),
            "TOKEN_SERVICE_TLS_KEY_FILE": str(key),
        }

    def keep(self, directory: Path) -> None:
        """Copy history and logs. Their tokens and keys are worthless once the site is gone."""
        shutil.copytree(self._root, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("disk"))
        for node in self.nodes:
            (directory / f"{node.name}.log").write_text(node.log_text())

    def restart_what_ended(self) -> None:
        """Restart ended processes that no fault holds down, and record it in the history."""
        for process in self.processes:
            if process.running or process.name in self.held:
                continue
            code = process.exit_code
            log = self.log_of(process)[-3000:]
            # Not ready: a fault killed it, or a node found no database at its start.
            ready = code is not None and code >= 0 and (isinstance(process, Program) or process.was_ready)
            self.journal.write(
                "ended", p=process.name, at=clock(), code=code, ready=ready, log=log if ready else ""
            )
            if isinstance(process, NodeProcess):
                process.start(wait=False)
            else:
                process.start()

    @staticmethod
    def log_of(process: Process) -> str:
        """Return the standard output and error of a process."""
        if isinstance(process, NodeProcess):
            return process.log_text()
        return process.log.read_text(errors="replace") if process.log.exists() else ""

    def sample_memory(self) -> None:
        """Record the memory of each process."""
        for process in self.processes:
            if process.running:
                try:
                    resident = psutil.Process(process.pid).memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                self.journal.write("memory", p=process.name, at=clock(), rss=resident / 2**20)

    def _forget_clocks(self) -> None:
        """Delete the shared memory in which libfaketime kept the state of killed processes."""
        if not self.clocks:
            return
        for file in Path("/dev/shm").glob("*faketime_*"):
            number = file.name.rpartition("_")[2]
            if number.isdecimal() and not psutil.pid_exists(int(number)):
                file.unlink(missing_ok=True)

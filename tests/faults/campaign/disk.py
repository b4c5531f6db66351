"""SQLite on a full disk: calls fail with a typed error, acknowledged writes survive, and the node recovers."""

from __future__ import annotations

import asyncio
import random
import resource
import subprocess

from tests.faults.campaign.certificates import Certificates
from tests.faults.campaign.conductor import Campaign, Options, Outcome
from tests.faults.campaign.faults import Fault
from tests.faults.campaign.history import Journal
from tests.faults.campaign.plan import Size
from tests.faults.campaign.site import NodeProcess, Program, Site

KIND = "disk of SQLite full"
_DISK = 16 * 2**20
"""Size of the disk in bytes. SQLite's write-ahead log alone grows to 4 MB."""


class DiskSite(Site):
    """A few validators and one node on SQLite, on its own file system if mounting is allowed."""

    async def _start(self) -> None:
        self._make_root()
        self.disk = self._root / "disk"
        self.disk.mkdir()
        done = await asyncio.to_thread(
            subprocess.run,
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "campaign", str(self.disk)],
            capture_output=True,
            check=False,
        )
        self.mounted = done.returncode == 0
        if self.mounted:
            self._stack.callback(subprocess.run, ["umount", "-l", str(self.disk)], check=True)
        self.journal = Journal(self._root / "faults.jsonl")
        self.certificates = Certificates(self._root)
        environment = {
            **self._settings(0),
            "TOKEN_SERVICE_DATABASE_URL": f"sqlite+aiosqlite:///{self.disk / 'tokens.db'}",
        }
        node = NodeProcess("node0", environment, "")
        self.nodes.append(node)
        self._stack.callback(node.close)
        await asyncio.to_thread(node.start)
        targets = [node.grpc_address]
        plan = self.plan("validators0", targets, count=self.size.validators)
        self.validators.append(Program("validators", plan, None))
        self.consumers = Program("consumers", self.plan("consumers", targets), None)
        self.load = Program(
            "load", self.plan("load", targets, count=self.size.cells, seed=self._seed * 100), None
        )
        for program in self.programs:
            self._stack.callback(program.kill)
            program.start()

    def fill(self) -> None:
        """Use up all space."""
        if not self.mounted:
            # Equivalent to a full disk: no file may grow.
            size = max(file.stat().st_size for file in self.disk.iterdir())
            _limit(self.nodes[0].pid, size)
            return
        with (self.disk / "ballast").open("wb", buffering=0) as file:
            for piece in (2**16, 1):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError:
                    continue

    def make_room(self) -> None:
        """Undo `fill`."""
        if self.mounted:
            (self.disk / "ballast").unlink(missing_ok=True)
        elif self.nodes[0].running:
            _limit(self.nodes[0].pid, resource.RLIM_INFINITY)


def _limit(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _faults(site: Site, rng: random.Random) -> list[Fault]:
    assert isinstance(site, DiskSite)

    async def fill() -> None:
        await asyncio.to_thread(site.fill)

    async def make_room() -> None:
        await asyncio.to_thread(site.make_room)

    return [Fault(KIND, "disk", fill, make_room, frozenset({"disk"}))]


async def run_disk(options: Options) -> Outcome:
    """Fill the disk repeatedly until the time is over or something is found."""
    async with DiskSite(Size(2, 4, 60), bound=options.bound, seed=options.seed, defect="") as site:
        outcome = await Campaign(options, site, _faults).run()
        outcome.title = "SQLite on a full disk"
        if not site.mounted:
            outcome.notes.append(
                "No file system could be mounted; instead, the node's files were not allowed to grow."
            )
        return outcome

"""The conductor of a campaign: it starts everything, breaks things, waits for recovery and asks the judge."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.campaign.audit import audit
from tests.faults.campaign.checks.finding import Finding
from tests.faults.campaign.checks.processes import RECOVERY_LIMIT
from tests.faults.campaign.faults import Fault, catalog
from tests.faults.campaign.history import History, clock
from tests.faults.campaign.judge import Judge
from tests.faults.campaign.plan import SIZES
from tests.faults.campaign.schedule import Planned, Schedule
from tests.faults.campaign.site import Process, Servers, Site
from tests.support.processes import http_status

_DEFECT = re.compile(r"^Traceback|^\s+File \"|INTERNAL|never (?:awaited|retrieved)", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\dT)", re.MULTILINE)
_SETTLE = 2.0
_REST_WITH_DEFECT = 5.0
"""Longest time between two rounds, in seconds: a defect needs many rounds."""

Faults = Callable[[Site, random.Random], Sequence[Fault]]


@dataclass(frozen=True)
class Options:
    """The options of a run."""

    minutes: float
    seed: int
    size: str = "full"
    bound: float = 2.0
    defect: str = ""
    kinds: tuple[str, ...] = ()
    """Kinds of faults to use; empty: all."""
    keep: Path | None = None
    """Directory for history and logs of a run with findings; None: keep nothing."""
    say: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))


@dataclass
class Outcome:
    """The result of a run."""

    options: Options
    findings: list[Finding]
    judge: Judge
    seconds: float
    notes: list[str]
    title: str = "All faults"
    start: float = 0.0
    """Duration of the start, in seconds."""


async def run(options: Options, servers: Servers | None = None) -> Outcome:
    """Run until the time is over or something is found. The time of a run with a defect includes the start."""
    began = clock()
    size = SIZES[options.size]
    site = Site(size, bound=options.bound, seed=options.seed, defect=options.defect, servers=servers)
    async with site:
        start = clock() - began
        if options.defect:
            options = replace(options, minutes=options.minutes - start / 60)
        outcome = await Campaign(options, site, catalog).run()
        return replace(outcome, start=start)


class Campaign:
    """One campaign at a running site."""

    def __init__(self, options: Options, site: Site, faults: Faults) -> None:
        self._faults = faults
        self._options = options
        self._site = site
        self._history = History(site.root)
        self._judge = Judge(options.bound)
        self._judging = asyncio.Lock()
        self._found = asyncio.Event()
        self._fault = 0
        self._read: dict[str, int] = {}

    async def run(self) -> Outcome:
        """Run until the time is over or something is found."""
        options, site = self._options, self._site
        rng = random.Random(options.seed)
        schedule = Schedule(self._faults(site, rng), rng, options.bound, options.kinds)
        began = clock()
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._keep()), group.create_task(self._watch())]
            try:
                await self._go_through(schedule)
            finally:
                for helper in helpers:
                    helper.cancel()
        findings = self._judge.findings()
        if options.keep is not None and findings:
            site.keep(options.keep / "-".join(["seed", str(options.seed), *filter(None, [options.defect])]))
        notes = [site.without_clocks] if site.without_clocks else []
        return Outcome(options, findings, self._judge, clock() - began, notes)

    async def _go_through(self, schedule: Schedule) -> None:
        options = self._options
        began = clock()
        await self._rest()
        rounds = 0
        while (spent := clock() - began) < options.minutes * 60 and not self._found.is_set():
            planned = schedule.next()
            rounds += 1
            options.say(
                f"faults: campaign: {_minutes(spent)} of {_minutes(options.minutes * 60)}, "
                f"{self._judge.freshness.accepted:,} acceptances judged, round {rounds}: "
                + ", ".join(f"{each.fault.kind} ({each.fault.target})" for each in planned)
            )
            await self._round(planned)
            await self._rest()
            await self._listen()
            async with self._judging:
                if not self._found.is_set():
                    self._judge.forget(clock())
        if not self._found.is_set():
            await self._finish()

    async def _watch(self) -> None:
        """Give the judge new records, periodically."""
        while True:
            await self._listen()
            await asyncio.sleep(0.5)

    async def _listen(self) -> None:
        """Give the judge new records and note whether it finds something; in a thread, so that faults end on time."""

        def work() -> bool:
            self._judge.feed(self._history.new())
            return bool(self._judge.findings())

        async with self._judging:
            if await asyncio.to_thread(work):
                self._found.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, but at most until something is found."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._found.wait(), seconds)

    async def _round(self, planned: Sequence[Planned]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in planned:
                group.create_task(self._break(each))

    async def _break(self, planned: Planned) -> None:
        await asyncio.sleep(planned.after)
        self._fault += 1
        number, fault = self._fault, planned.fault
        self._site.journal.write("fault", id=number, kind=fault.kind, target=fault.target, at=clock())
        try:
            await fault.begin()
            await self._pause(planned.lasts)
        finally:
            await fault.end()
            self._site.journal.write("fault_end", id=number, at=clock())

    async def _rest(self) -> None:
        """Wait without a fault until everything is ready and fresh, and then a little longer."""
        began = clock()
        limit = RECOVERY_LIMIT
        if self._options.defect and self._fault:
            limit = _REST_WITH_DEFECT
        while (missing := await self._missing(began)) and clock() - began < limit:
            await self._pause(0.3)
            if self._found.is_set():
                return
        if missing and limit < RECOVERY_LIMIT:
            return
        self._site.journal.write("rest", b=began, at=clock(), missing=missing)
        await self._pause(_SETTLE)

    async def _missing(self, began: float) -> list[str]:
        missing = []
        for node in self._site.nodes:
            status = await asyncio.to_thread(http_status, node.http_address, "/readyz", timeout=5)
            if status != 200:
                missing.append(f"{node.name} is not ready ({status})")
        for program in self._site.validators:
            count = self._site.size.validators // len(self._site.validators)
            names = [f"{program.name}.{number}" for number in range(count)]
            stale = [name for name in names if self._judge.proven.get(name, 0.0) < began]
            if stale:
                missing.append(f"{', '.join(stale)} {'has' if len(stale) == 1 else 'have'} not been fresh")
        return missing

    async def _keep(self) -> None:
        """Restart ended processes, measure memory and read logs, periodically."""
        beats = 0
        while True:
            await asyncio.sleep(0.25)
            await asyncio.to_thread(self._site.restart_what_ended)
            beats += 1
            if beats % 8 == 0:
                await asyncio.to_thread(self._site.sample_memory)
                await asyncio.to_thread(self._read_logs)

    def _read_logs(self) -> None:
        for process in self._site.processes:
            self._read_log(process)

    def _read_log(self, process: Process) -> None:
        text = self._site.log_of(process)
        start = self._read.get(process.name, 0)
        new = text[start : text.rfind("\n") + 1]
        for entry in _ENTRY.split(new):
            if _DEFECT.search(entry):
                self._site.journal.write("log", p=process.name, at=clock(), text=entry[:3000])
        self._read[process.name] = start + len(new)

    async def _finish(self) -> None:
        """End the load, let validators see the last revocations, and audit for lost writes."""
        site = self._site
        site.held.add(site.load.name)
        await asyncio.to_thread(site.load.kill)
        await asyncio.sleep(self._options.bound + 1)
        await self._listen()
        await audit(site, self._judge)
        await asyncio.to_thread(self._read_logs)
        await self._listen()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"

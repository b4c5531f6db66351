"""`scripts/bench --report`: keeps results and writes them as a page, JSON and pictures.

A suite that runs again replaces its own results. The page is made from the kept results alone.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.chart import Chart, draw
from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from token_service import __version__

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "performance.md"
RESULTS = _ROOT / "docs" / "performance" / "results.json"


@dataclass(frozen=True)
class Machine:
    """The hardware of a measurement."""

    model: str
    cores: int
    python: str

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        return cls(_model(), psutil.cpu_count() or 1, platform.python_version())


@dataclass(frozen=True)
class SuiteResult:
    """The rows and charts of one suite, and the circumstances of its measurement."""

    version: str
    measured: str
    """The day, in UTC."""
    machine: Machine
    rounds: int
    """Pairs of rounds of each row."""
    seconds: float
    """The length of a round."""
    rows: Sequence[Row]
    charts: Sequence[Chart] = field(default=())

    @classmethod
    def now(cls, effort: Effort, rows: Sequence[Row], charts: Sequence[Chart]) -> SuiteResult:
        """Return results measured just now."""
        day = datetime.now(UTC).date().isoformat()
        return cls(version(), day, Machine.here(), effort.rounds, effort.seconds, rows, charts)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> SuiteResult:
        """Return results as `dataclasses.asdict` saved them."""
        return cls(
            **{
                **saved,
                "machine": Machine(**saved["machine"]),
                "rows": tuple(Row(**row) for row in saved["rows"]),
                "charts": tuple(Chart(**chart) for chart in saved["charts"]),
            }
        )


def version() -> str:
    """Return the version and the commit, with "dirty" if files differ from the commit."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    return f"{__version__} ({found.stdout.strip()})" if found.returncode == 0 else __version__


def load() -> dict[str, SuiteResult]:
    """Return the kept results of each suite."""
    if not RESULTS.exists():
        return {}
    saved = json.loads(RESULTS.read_text())["suites"]
    return {name: SuiteResult.from_json(result) for name, result in saved.items()}


def save(new: Mapping[str, SuiteResult], order: Sequence[str]) -> None:
    """Add results to the kept ones and write JSON, pictures and the page. `order`: the names of all suites."""
    every = {**load(), **new}
    suites = {name: every[name] for name in order if name in every}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    document = {"suites": {name: asdict(result) for name, result in suites.items()}}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    for result in new.values():
        for chart in result.charts:
            draw(chart, RESULTS.parent)
    PAGE.write_text(page(suites))


def page(suites: Mapping[str, SuiteResult]) -> str:
    """Return the page in Markdown."""
    return "\n".join(_lines(suites)).rstrip() + "\n"


def _lines(suites: Mapping[str, SuiteResult]) -> Iterator[str]:
    yield from (
        "# Performance",
        "",
        "`scripts/bench --report` measured all numbers of this page and wrote it. The page has the same content as",
        "[results.json](performance/results.json). `scripts/bench --help` says what each suite measures.",
        "",
        "## How to read the numbers",
        "",
        "Absolute times depend on the machine, and so do ratios, but less: each compares the service with a reference that runs",
        "on the same machine in the same minutes. Both sides take turns, and a ratio is the median over all pairs of turns.",
        "On a processor that makes the no-op server twice as fast, the work of a call weighs twice as much.",
        "",
        "- *no-op*: a server of the same generated code that returns a message of the same size and does nothing else.",
        "- *rate*: calls a second of 64 concurrent callers, who share the cores with the server and its database.",
        "- *processor time*: seconds that the processes of the server used for a call. It hardly depends on other load.",
        "",
        "A node has the default settings unless its row says otherwise: one worker, a pool of 10 database connections,",
        "log level `info` with a line of the audit log for each issued, refreshed and revoked token, metrics on, traces off.",
        "PostgreSQL and Redis run on the same machine, with `fsync` on.",
        "",
        "## Verdict",
        "",
        *_verdict(suites),
    )
    for name, result in suites.items():
        yield from ("", f"## {name}", "", f"{_circumstances(result)}", "")
        if result.rows:
            yield from _table(result.rows)
        for chart in result.charts:
            yield from ("", f"![{chart.title}](performance/{chart.name}.svg)")
            if chart.note:
                yield from ("", chart.note)
        notes = [row for row in result.rows if row.note]
        if notes:
            yield ""
            yield from (f"- {_cell(row.what)}: {row.note}." for row in notes)


def _verdict(suites: Mapping[str, SuiteResult]) -> Iterator[str]:
    with_goal = [row for result in suites.values() for row in result.rows if row.met is not None]
    missed = [row for row in with_goal if not row.met]
    yield f"{len(with_goal) - len(missed)} of {len(with_goal)} goals are reached."
    if missed:
        yield from ("", "Missed:", "")
        yield from _table(missed)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| measured | ours | reference | ratio | goal | reached |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row.cells()).rstrip() + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<=", "≤").replace(">=", "≥")


def _circumstances(result: SuiteResult) -> str:
    machine = result.machine
    effort = f", {result.rounds} pairs of rounds" + (f" of {result.seconds:g} s" if result.seconds else "")
    return (
        f"Version {result.version}, {result.measured}, {machine.cores} cores of {machine.model}, "
        f"Python {machine.python}{effort}."
    )


def _model() -> str:
    """Return the model of the processor, for example "Intel(R) Xeon(R) CPU @ 2.20GHz"."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()

"""Two servers under the same load in many alternating rounds, so that other load of the machine hits both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from tests.benchmarks.load import Load, Run


@dataclass(frozen=True)
class Effort:
    """The number and the length of rounds, and the time under load of what grows slowly."""

    rounds: int
    seconds: float
    minutes: float = 2.0


@dataclass(frozen=True)
class Side:
    """A server and its load generator."""

    load: Load
    pid: int

    def run(self, seconds: float) -> tuple[Run, float]:
        """Run one round; return the run and the server's seconds of processor time for each call."""
        before = self._processor_time()
        run = self.load.run(seconds)
        return run, (self._processor_time() - before) / max(1, run.calls)

    def _processor_time(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@dataclass(frozen=True)
class Outcome:
    """Medians over all rounds. `rate` and `p50` are medians of ratios of pairs of rounds, ours by the reference."""

    rates: tuple[float, float]
    p50s: tuple[float, float]
    processor_times: tuple[float, float]
    rate: float
    p50: float

    @property
    def rate_cells(self) -> tuple[str, str]:
        """Calls per second, for the table."""
        ours, reference = self.rates
        return f"{ours:,.0f}/s", f"{reference:,.0f}/s"

    @property
    def p50_cells(self) -> tuple[str, str]:
        """Milliseconds, for the table."""
        ours, reference = self.p50s
        return f"{ours * 1e3:.2f} ms", f"{reference * 1e3:.2f} ms"

    @property
    def note(self) -> str:
        """Processor time of the servers, which stays comparable on a busy machine."""
        ours, reference = self.processor_times
        return (
            f"server's processor time a call {ours * 1e6:.0f} us, reference {reference * 1e6:.0f} us "
            f"({reference / ours:.2f})"
        )


def duel(ours: Side, reference: Side, *, rounds: int, seconds: float) -> Outcome:
    """Let both sides serve for `seconds` in each of `rounds` rounds, taking turns at going first.

    One round before is not counted.
    """
    sides = (ours, reference)
    for side in sides:
        side.run(min(1.0, seconds))
    found: tuple[list[tuple[Run, float]], list[tuple[Run, float]]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            found[which].append(sides[which].run(seconds))
    pairs = list(zip(*found, strict=True))
    return Outcome(
        rates=_medians([run.rate for run, _ in side] for side in found),
        p50s=_medians([run.p50 for run, _ in side] for side in found),
        processor_times=_medians([cpu for _, cpu in side] for side in found),
        rate=median(a.rate / b.rate for (a, _), (b, _) in pairs),
        p50=median(a.p50 / b.p50 for (a, _), (b, _) in pairs),
    )


def _medians(sides: object) -> tuple[float, float]:
    values: Sequence[float] = [median(side) for side in sides]  # type: ignore[attr-defined]
    return values[0], values[1]

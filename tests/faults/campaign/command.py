"""The command line of the campaign."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.campaign.conductor import Options, Outcome, run
from tests.faults.campaign.defects import DEFECTS
from tests.faults.campaign.disk import run_disk
from tests.faults.campaign.plan import SIZES
from tests.faults.campaign.report import render
from tests.faults.campaign.site import Servers

_EXAMPLES = """\
examples:
  scripts/faults campaign --minutes 10 --seed 7
  scripts/faults campaign --minutes 11 --seeds 11,12,13 --write-report docs/reliability.md
  scripts/faults campaign --minutes 2 --size small --defect cache-unchecked
  scripts/faults campaign --self-test
"""
_SHOWN = 3
_DISK_MINUTES = 0.5
_MINUTES_WITH_DEFECT = 2.0
"""Includes the start of the processes."""
_MINUTES_WITHOUT = 1.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `campaign` to the commands of `scripts/faults`."""
    parser = commands.add_parser(
        "campaign",
        help="the whole service under load and faults: no token is accepted after t + S, no acknowledged write is lost",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="duration of the faults in minutes (default 10)"
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="default: from the time")
    seeds.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,N,…",
        help="run several seeds in turn until one finds something",
    )
    parser.add_argument("--size", choices=SIZES, default="full", help="default full: 20 validators")
    parser.add_argument("--bound", type=float, default=2.0, metavar="S", help="S in seconds (default 2)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="keep history and logs of a run with findings"
    )
    parser.add_argument(
        "--write-report", type=Path, metavar="FILE", help="write faults, counts and findings as Markdown"
    )
    parser.add_argument(
        "--defect", choices=DEFECTS, help="run with a known defect, which the judge must find"
    )
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="run every known defect in turn, at most 2 minutes each, start included",
    )
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Run the campaign or the self-test; return 1 for a finding or an undetected defect."""
    try:
        if arguments.self_test:
            return _self_test(arguments)
        return _campaign(arguments)
    except KeyboardInterrupt:
        print("faults: campaign: interrupted; all started processes have ended", file=sys.stderr)
        return 130


def _campaign(arguments: argparse.Namespace) -> int:
    outcomes: list[Outcome] = []
    for seed in arguments.seeds or [arguments.seed]:
        outcomes += _runs(arguments, seed)
        if arguments.write_report is not None:
            arguments.write_report.write_text(render(outcomes))
        if any(outcome.findings for outcome in outcomes):
            break
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    for finding in findings[:_SHOWN]:
        print(finding)
    if len(findings) > _SHOWN:
        print(f"and {len(findings) - _SHOWN} more")
    judges = [outcome.judge for outcome in outcomes]
    print(
        f"seed {', '.join(str(seed) for seed in dict.fromkeys(outcome.options.seed for outcome in outcomes))}: "
        f"{sum(sum(judge.surroundings.count().values()) for judge in judges)} faults in "
        f"{sum(outcome.seconds for outcome in outcomes):.0f} s, "
        f"{sum(judge.freshness.accepted for judge in judges):,} acceptances and "
        f"{sum(judge.kinds['revoked'] for judge in judges):,} revocations judged, {len(findings) or 'no'} findings"
    )
    return 1 if findings else 0


def _runs(arguments: argparse.Namespace, seed: int) -> Iterator[Outcome]:
    """Run the campaign, then SQLite on a full disk."""
    defect = arguments.defect or ""
    outcome = asyncio.run(run(_options(arguments, seed, arguments.minutes, arguments.size, defect)))
    yield outcome
    if not defect and not outcome.findings:
        print("faults: campaign: SQLite on a full disk", file=sys.stderr, flush=True)
        minutes = min(_DISK_MINUTES, arguments.minutes)
        yield asyncio.run(run_disk(_options(arguments, seed, minutes, arguments.size, "")))


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _options(arguments: argparse.Namespace, seed: int, minutes: float, size: str, defect: str) -> Options:
    return Options(
        minutes=minutes,
        seed=seed,
        keep=arguments.keep,
        size=size,
        bound=arguments.bound,
        defect=defect,
        kinds=DEFECTS[defect].kinds if defect else (),
    )


def _self_test(arguments: argparse.Namespace) -> int:
    """Run every defect, which must be found in time, and no defect, which must find nothing."""
    servers = Servers()
    try:
        servers.start()
        rows = [_trial(arguments, name, servers) for name in ("", *DEFECTS)]
    finally:
        servers.close()
    width = max(len(title) for title, *_ in rows)
    for title, good, seconds, start, found in rows:
        verdict = "as expected" if good else "WRONG"
        print(f"{title:<{width}}  {verdict:<13}  {seconds:4.0f} s, {start:3.0f} s of it start  {found}")
    return 0 if all(good for _, good, *_ in rows) else 1


def _trial(
    arguments: argparse.Namespace, defect: str, servers: Servers
) -> tuple[str, bool, float, float, str]:
    title = DEFECTS[defect].summary if defect else "no defect"
    print(f"faults: self-test: {title}", file=sys.stderr, flush=True)
    minutes = _MINUTES_WITH_DEFECT if defect else _MINUTES_WITHOUT
    outcome = asyncio.run(run(_options(arguments, arguments.seed, minutes, "small", defect), servers))
    found = outcome.findings[0].kind if outcome.findings else "nothing"
    good = bool(outcome.findings) == bool(defect)
    return title, good, outcome.start + outcome.seconds, outcome.start, found

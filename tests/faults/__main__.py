"""`scripts/faults`: trials that take too long for every test run."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import time

from tests.faults.campaign import command as campaign


def main() -> int:
    """Run the chosen trial; return 1 if it found something."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    fuzz = commands.add_parser("fuzz", help="hostile tokens: the validator accepts none that PyJWT refuses")
    fuzz.add_argument("--millions", type=float, default=2.0, help="millions of tokens to try (default 2)")
    fuzz.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    fuzz.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: all processors")
    fuzz.set_defaults(run=_fuzz)
    http = commands.add_parser(
        "http", help="hostile HTTP requests: no defect, no secret in an answer or a log"
    )
    http.add_argument("--thousands", type=float, default=100.0, help="thousands of requests (default 100)")
    http.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    http.set_defaults(run=_http)
    staleness = commands.add_parser(
        "staleness", help="nodes, network, Redis and validators fail: no token is accepted after t + S"
    )
    staleness.add_argument("--rounds", type=int, default=5, help="number of rounds (default 5)")
    staleness.set_defaults(run=_staleness)
    scale = commands.add_parser(
        "scale", help="a thousand validators on one node: bursts, stalled readers, concurrent reconnects"
    )
    scale.add_argument("--subscribers", type=int, default=1000, help="default 1000")
    scale.add_argument("--burst", type=int, default=10_000, help="revocations in one burst (default 10000)")
    scale.set_defaults(run=_scale)
    flood = commands.add_parser(
        "flood", help="calls and connections beyond every limit; honest callers beside them are answered"
    )
    flood.add_argument("--seconds", type=float, default=10.0, help="how long each flood lasts (default 10)")
    flood.set_defaults(run=_flood)
    campaign.add(commands)
    arguments = parser.parse_args()
    status: int = arguments.run(arguments)
    return status


def _fuzz(arguments: argparse.Namespace) -> int:
    from tests.faults.fuzz import run_one

    count = int(arguments.millions * 1_000_000) // arguments.processes
    seeds = [arguments.seed + number for number in range(arguments.processes)]
    print(f"faults: fuzz: {len(seeds)} processes, seeds from {seeds[0]}", file=sys.stderr, flush=True)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for seed, summary in zip(
            seeds, pool.starmap(run_one, [(seed, count) for seed in seeds]), strict=True
        ):
            print(f"seed {seed}: {summary}")
    return 0


def _http(arguments: argparse.Namespace) -> int:
    from tests.faults.http_fuzz import run_one

    print(f"faults: http: seed {arguments.seed}", file=sys.stderr, flush=True)
    print(asyncio.run(run_one(arguments.seed, int(arguments.thousands * 1000))))
    return 0


def _staleness(arguments: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "tests/integration/client/test_bounded_staleness.py"]
    env = {**os.environ, "TOKEN_SERVICE_TEST_STALENESS_VALIDATORS": "50"}
    for number in range(arguments.rounds):
        print(f"faults: staleness: round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        if subprocess.run(command, env=env, check=False).returncode:
            return 1
    return 0


def _scale(arguments: argparse.Namespace) -> int:
    from tests.faults.scale import main as scale

    return scale(arguments.subscribers, arguments.burst)


def _flood(arguments: argparse.Namespace) -> int:
    from tests.faults.flood import main as flood

    return flood(arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())

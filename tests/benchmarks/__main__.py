"""`scripts/bench`: measures and prints the table."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import (
    against,
    console,
    database,
    envoy,
    fanout,
    features,
    gateway,
    growth,
    memory,
    memory_growth,
    oauth,
    personal_data,
    report,
    reports,
    risk,
    rotation,
    rpcs,
    starting,
    statements,
    sweeps,
)
from tests.benchmarks.chart import Chart
from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row, render
from tests.support.postgres import PostgresDatabases, PostgresServer, external_postgres

_SUITES: dict[str, tuple[Callable[..., Iterator[Row | Chart]], ...]] = {
    "reference": (rpcs.reference,),
    "validate": (rpcs.validate_repeated, rpcs.validate_distinct),
    "issue": (rpcs.issue_access, rpcs.issue_session),
    "refresh": (rpcs.refresh, statements.rotation),
    "database": (
        database.session,
        database.rotation,
        statements.session,
        statements.revocation,
    ),
    "curves": (sweeps.latency, sweeps.concurrency, sweeps.token_size),
    "oauth": (oauth.client_credentials, oauth.refresh_token, oauth.introspect),
    "keys": (rotation.validate_during_rotation,),
    "metrics": (features.metrics,),
    "traces": (features.traces,),
    "features": (features.audit_lines, features.rates, features.callers, features.together),
    "personal-data": (personal_data.cost,),
    "risk": (risk.cost,),
    "growth": (growth.refresh_growth, growth.validate_growth, growth.set_growth),
    "start": (starting.start, starting.import_client),
    "clients": (starting.many_clients,),
    "memory": (memory.node, memory.validator, memory_growth.growth_under_load),
    "console": (console.pages,),
    "reports": (reports.made,),
    "gateway": (gateway.check, envoy.envoy),
    "fanout": (fanout.revoked_everywhere,),
}
_CLIENT = "client"
_CAREFUL = Effort(rounds=15, seconds=2.0, minutes=60.0)
_QUICK = Effort(rounds=10, seconds=0.5)


def main() -> int:
    """Run the chosen suites; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    names = [*_SUITES, _CLIENT]
    parser.add_argument(
        "what", nargs="*", metavar="what", help=f"suites to run, of {', '.join(names)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--against", type=Path, metavar="DIRECTORY", help="compare with another checkout")
    parser.add_argument("--report", action="store_true", help="write docs/performance.md")
    arguments = parser.parse_args()
    effort = _QUICK if arguments.quick else _CAREFUL
    if arguments.against is not None:
        return _compare(arguments.against.resolve(), effort)
    unknown = set(arguments.what) - set(names)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    status = 0
    with ExitStack() as stack:
        postgres: PostgresDatabases | None = external_postgres()
        for name in arguments.what or names:
            rows: list[Row] = []
            charts: list[Chart] = []
            for suite in _SUITES.get(name, ()):
                print(f"bench: {name}: {suite.__name__} …", file=sys.stderr, flush=True)
                options = {}
                if "postgres" in inspect.signature(suite).parameters:
                    postgres = postgres or stack.enter_context(PostgresServer())
                    options["postgres"] = postgres
                for found in suite(effort, **options):
                    if isinstance(found, Row):
                        rows.append(found)
                    else:
                        charts.append(found)
            if name == _CLIENT:
                rows = _client(quick=arguments.quick)
            if rows:
                print(render(rows), end="\n\n", flush=True)
            if arguments.report:
                # After each suite, so that an interrupted run keeps what it has measured.
                report.save({name: report.SuiteResult.now(effort, rows, charts)}, names)
            status |= any(row.met is False for row in rows)
    return status


def _client(*, quick: bool) -> list[Row]:
    """Measure the client library in its own process, which holds nothing else."""
    with tempfile.NamedTemporaryFile() as file:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.client",
            "--rows",
            file.name,
            *(["--quick"] * quick),
        ]
        subprocess.run(command, check=True)
        return [Row(**row) for row in json.loads(Path(file.name).read_text())]


def _compare(other: Path, effort: Effort) -> int:
    with ExitStack() as stack:
        rows = list(against.rows(other, effort, external_postgres() or stack.enter_context(PostgresServer())))
    print(render(rows))
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

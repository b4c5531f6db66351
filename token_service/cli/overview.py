"""`token-service overview`: show the state of the whole service, over gRPC."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.exit_codes import ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.nodes import HEADER as NODES, node_row
from token_service.cli.output import (
    members,
    output_option,
    show_json,
    show_line,
    show_table,
    span_text,
    timestamp_text,
    visible,
)
from token_service.cli.remote.options import service_options
from token_service.errors import ServiceError

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_KEYS: Final = ("KEY", "ALGORITHM", "STATE", "ACTIVATED", "NEXT CHANGE")
_JOBS: Final = ("JOB", "NODE", "LAST RUN", "WAITING")


@click.command("overview", cls=SettingsCommand)
@service_options
@output_option
@click.option(
    "--watch",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="Show it again at this interval, until Ctrl-C. JSON: one document a line.",
)
@click.option("--check", is_flag=True, help="Exit with code 6 if there is a critical problem.")
def command(service: Service, output: str, watch: float | None, *, check: bool) -> None:
    """Show the state of the service on one page, with everything that needs attention first. The caller needs
    `admin.read`.

    \b
    Examples:
      token-service overview --connection production --watch 5
      token-service overview --connection production --check -o json
    """
    if watch is not None:
        if check:
            raise click.UsageError("--check looks once; leave out --watch")
        _watch(service, output, watch)
        return
    overview = _get(service)
    if output == "json":
        show_json(members(overview))
    else:
        _show(overview)
    if check and any(problem.severity == "critical" for problem in overview.problems):
        click.get_current_context().exit(ExitCode.NO)


def _get(service: Service) -> Any:
    from token_service.v1.admin_service_pb2 import GetOverviewRequest

    return service.call(service.admin.GetOverview, GetOverviewRequest())


def _watch(service: Service, output: str, seconds: float) -> None:
    """Show the overview until Ctrl-C. A service that does not answer is asked again."""
    try:
        while True:
            try:
                overview = _get(service)
            except ServiceError as error:
                show_line(f"No answer, asking again in {seconds:g} s: {error.message}", err=True)
            else:
                if output == "json":
                    click.echo(json.dumps(members(overview)))
                else:
                    if sys.stdout.isatty():
                        click.clear()
                    _show(overview)
            time.sleep(seconds)
    except KeyboardInterrupt:
        pass


def _show(overview: Any) -> None:
    click.echo(
        f"{visible(overview.issuer)}, version {visible(overview.version)}, schema {visible(overview.schema_revision)}"
    )
    click.echo()
    for problem in overview.problems:
        place = f" {problem.node_id}" if problem.node_id else ""
        click.echo(visible(f"{problem.severity.upper()} {problem.name}{place}: {problem.message}"))
    if not overview.problems:
        click.echo("Nothing needs attention.")
    click.echo()
    for name, value in _numbers(overview):
        click.echo(f"{name:<13}  {value}")
    click.echo()
    show_table(NODES, [node_row(node) for node in overview.nodes])
    click.echo()
    show_table(_JOBS, [_job_row(job) for job in overview.jobs])
    click.echo()
    show_table(_KEYS, [_key_row(key) for key in overview.keys])


def _numbers(overview: Any) -> Sequence[tuple[str, str]]:
    connected, behind, silent = (
        overview.subscribers_connected,
        overview.subscribers_behind,
        overview.subscribers_silent,
    )
    policies = f"revision {overview.policies_revision}" if overview.policies_revision else "as in the file"
    return (
        ("validators", f"{connected} connected, {behind} behind, {silent} silent"),
        ("propagation", _propagation(overview.propagation)),
        ("revocations", f"{overview.revocations} in force, head {visible(overview.head_cursor)}"),
        ("sessions", f"{overview.sessions_active} active"),
        ("clients", f"{overview.clients_active} active"),
        ("policies", policies),
    )


def _propagation(propagation: Any) -> str:
    if not propagation.count:
        return "not measured yet"
    median, p99, longest = (span_text(propagation, name) for name in ("median", "p99", "longest"))
    last = timestamp_text(propagation, "last_time")
    return f"half within {median}, 99 % within {p99}, slowest {longest}; the last {propagation.count}, up to {last}"


def _job_row(job: Any) -> Sequence[str]:
    return job.name, job.node_id or "-", timestamp_text(job, "last_run_time"), str(job.backlog)


def _key_row(key: Any) -> Sequence[str]:
    return (
        key.key_id,
        key.algorithm,
        key.state,
        timestamp_text(key, "activate_time"),
        timestamp_text(key, "next_change_time"),
    )

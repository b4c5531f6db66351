"""`token-service report usage`, `administration`, `keys`, `anomalies` and `geography`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from token_service.cli.audit.trail import on_trail
from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import show_line
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.reports.formats import FORMATS
from token_service.cli.reports.locations import read_locations
from token_service.cli.settings_options import settings_options
from token_service.cli.values import moment
from token_service.config import Settings
from token_service.core.reports.trail.period import WIDTHS, Period
from token_service.core.reports.trail.reports import GEOGRAPHY, make_report

if TYPE_CHECKING:
    from token_service.app.audit import AuditTrail
    from token_service.core.reports.trail.document import Report
    from token_service.core.reports.trail.reports import Locations

_MADE_OF: Final = {
    "usage": "Count the tokens that were issued, refreshed, exchanged and revoked, over time and by client.",
    "administration": "List who changed clients, policies and keys, and who revoked what.",
    "keys": "Show the life of each signing key, and the other changes of keys.",
    "anomalies": "Show verdicts on risk with their evidence, reuse, races, refusals and automatic revocations.",
    GEOGRAPHY: "Count the events by country and by network.",
}
_DEFAULT_FROM: Final = "30d"

Option: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]

geoip_option: Final[Option] = click.option(
    "--geoip",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file in MaxMind's format (.mmdb) that names the countries of addresses. `geography` only.",
)


def make(
    settings: Settings, kind: str, period: Period, locations: Locations | None, *, quiet: bool
) -> Report:
    """Make a report with a progress bar, and tell on standard error what a reader must know of the trail."""

    async def work(trail: AuditTrail) -> Report:
        with Progress("events read", quiet=quiet) as progress:
            return await make_report(trail.store, kind, period, locations, progress.show)

    report = on_trail(settings, work)
    if report.trail.cut:
        show_line(
            f"The retention has deleted events right before the first one in {len(report.trail.cut)} chains; the report lacks "
            "those that were in its range.",
            err=True,
        )
    for finding in report.trail.findings:
        show_line(finding, err=True)
    if not report.trail.is_intact:
        show_line(
            "The audit trail is not as it was written; `token-service audit verify` verifies all of it.",
            err=True,
        )
    return report


def _command(kind: str) -> click.Command:
    def run(
        settings: Settings,
        *,
        start: float,
        end: float | None,
        by: str | None,
        output: str | None,
        out: Path | None,
        quiet: bool,
        geoip: Path | None = None,
    ) -> None:
        now = time.time()
        try:
            period = Period.of(start, now if end is None else end, by)
        except ValueError as error:
            raise click.UsageError(f"the range of --from and --to {error}") from None
        if end is not None and end > now:
            show_line("The range is not over: a later report of it will have more events.", err=True)
        locations = None if geoip is None else read_locations(geoip)
        written = FORMATS[output or _format_of(out)]
        report = make(settings, kind, period, locations, quiet=quiet)
        _write(written(report), out)
        if not report.trail.is_intact:
            sys.exit(ExitCode.FAILURE)

    run.__doc__ = f"""{_MADE_OF[kind]}

    Exit code 1 if the events that were read are not as they were written; the report says so, too.

    \b
    Examples:
      token-service report {kind} --from 2026-11-01 --to 2026-12-01 --out {kind}.html
      token-service report {kind} --from 24h --by hour -o json
    """
    described: Callable[..., None] = settings_options(run)
    for option in reversed(_options(kind)):
        described = option(described)
    decorate: Callable[..., click.Command] = click.command(
        kind, cls=SettingsCommand, short_help=_MADE_OF[kind]
    )
    return decorate(described)


def _options(kind: str) -> list[Option]:
    options: list[Option] = [
        click.option(
            "--from",
            "start",
            callback=moment,
            default=_DEFAULT_FROM,
            show_default=True,
            metavar="TIME",
            help="Events at or after this time (UTC), or a span before now such as 24h.",
        ),
        click.option(
            "--to",
            "end",
            callback=moment,
            metavar="TIME",
            help="Events before this time (UTC), or a span before now. [now]",
        ),
        click.option(
            "--by", type=click.Choice(list(WIDTHS)), help="The intervals. [hour up to 3 days, else day]"
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(list(FORMATS)),
            help="The format. [as the name of --out ends, else json]",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write to this file instead of standard output. Only its owner may read it.",
        ),
        quiet_option,
    ]
    return [*options, geoip_option] if kind == GEOGRAPHY else options


def _format_of(out: Path | None) -> str:
    suffix = "json" if out is None else out.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise click.UsageError(f"--out {out} does not end with a format; add -o html, csv or json")
    return suffix


def _write(data: bytes, out: Path | None) -> None:
    """Write a report. A file is replaced as a whole."""
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    new = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
        new.replace(out)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CommandFailedError(f"--out {out}: {error.strerror}", ExitCode.FAILURE) from None


COMMANDS: Final = tuple(map(_command, _MADE_OF))

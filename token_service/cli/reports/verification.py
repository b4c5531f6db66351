"""`token-service report verify`: make a report again from the trail, and compare."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import show_line
from token_service.cli.progress import quiet_option
from token_service.cli.reports.formats import FORMATS, Head, parse
from token_service.cli.reports.locations import read_locations
from token_service.cli.reports.making import geoip_option, make
from token_service.cli.settings_options import settings_options
from token_service.config import Settings
from token_service.core.reports.trail.document import FORMAT, HASH, hash_of
from token_service.core.reports.trail.period import WIDTHS, Period
from token_service.core.reports.trail.reports import KINDS
from token_service.files import read_regular

if TYPE_CHECKING:
    from token_service.core.reports.trail.document import Report

MAX_FILE: Final = 1 << 28
"""Bytes of a report."""


@click.command("verify", cls=SettingsCommand, short_help="Make a report again from the trail, and compare.")
@settings_options
@click.argument("file", type=click.Path(path_type=Path))
@geoip_option
@quiet_option
def verify(settings: Settings, file: Path, geoip: Path | None, *, quiet: bool) -> None:
    """Make the report in FILE again from the audit trail, and compare the two byte for byte.

    Exit code 6 if they differ, with the reason; 1 if they are the same, but the events are not as they were written.

    \b
    Examples:
      token-service report verify usage.html
      token-service report verify geography.json --geoip GeoLite2-Country.mmdb
    """
    try:
        data = read_regular(file, MAX_FILE)
        written, head, members = parse(data)
        period = _period(head)
    except OSError as error:
        raise CommandFailedError(f"{file}: {error.strerror}", ExitCode.USAGE) from None
    except ValueError as error:
        raise CommandFailedError(f"{file}: {error}", ExitCode.USAGE) from None
    if members is not None and hash_of(members) != head.sha256:
        raise CommandFailedError(
            f"{file}: was changed after it was written: its hash is not that of its content", ExitCode.NO
        )
    locations = None
    if head.locations:
        if geoip is None:
            raise click.UsageError(
                f"{file} was made with a file of countries; give the same one with --geoip"
            )
        locations = read_locations(geoip)
        if locations.sha256 != head.locations:
            raise CommandFailedError(
                f"--geoip {geoip}: is not the file that the report was made with, whose SHA-256 is {head.locations}",
                ExitCode.USAGE,
            )
    report = make(settings, head.report, period, locations, quiet=quiet)
    if data != FORMATS[written](report):
        for problem in _problems(head, members, report):
            show_line(f"{file}: {problem}")
        sys.exit(ExitCode.NO)
    show_line(
        f"{file}: is the {head.report} report of the trail from {head.start} to {head.end}, of {head.events} events; "
        f"SHA-256 {head.sha256}"
    )
    if not report.trail.is_intact:
        sys.exit(ExitCode.FAILURE)


def _period(head: Head) -> Period:
    """Return the range of a report. Raises `ValueError`."""
    if head.format != FORMAT:
        raise ValueError(
            f"has the format {head.format}, and this version makes {FORMAT}; use the version that made the report"
        )
    if head.report not in KINDS or head.by not in WIDTHS:
        raise ValueError("is no report that this command wrote")
    return Period.of(
        datetime.fromisoformat(head.start).timestamp(), datetime.fromisoformat(head.end).timestamp(), head.by
    )


def _problems(head: Head, members: Mapping[str, Any] | None, report: Report) -> Iterator[str]:
    """Say why a report is not the one of the trail."""
    now = report.members()
    if now[HASH] == head.sha256:
        yield "was changed after it was written: its hash is that of the trail's report, its content is not"
        return
    if now["events"] != head.events:
        yield (
            f"the report is of {head.events} events, and the trail has {now['events']} in this range; the retention deletes "
            "old events, and events that wait for the database are written late"
        )
    elif now["erased"] != head.erased:
        yield (
            f"personal fields of {now['erased'] - head.erased} events were erased since; what it says of others can't be "
            "compared any more"
        )
    else:
        yield f"its hash is {head.sha256}, and that of the trail's report is {now[HASH]}"
    if members is None:
        return
    for name in ("chains", "figures", "tables", "notes", "verified"):
        if members.get(name) != now[name]:
            yield f"its {name} differ"

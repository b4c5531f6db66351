"""`token-service report`: reports over a time range of the audit trail."""

from __future__ import annotations

import click

from token_service.cli.reports.making import COMMANDS
from token_service.cli.reports.verification import verify


@click.group("report")
def command() -> None:
    """Report what happened in a time range, from the audit trail of the database.

    The same trail and range always give the same bytes. A report holds its SHA-256 and the ends of the chains that it was
    made from, so that `verify` can make it again and compare. docs/reports.md explains the reports.

    \b
    Examples:
      token-service report usage --from 2026-11-01 --to 2026-12-01 --out usage.html
      token-service report anomalies --from 24h -o json
      token-service report verify usage.html
    """


for each in (*COMMANDS, verify):
    command.add_command(each)

"""`token-service sessions`: list, count, read and revoke sessions, over gRPC."""

from __future__ import annotations

import click

from token_service.cli.sessions import automatic, reading, selection


@click.group("sessions")
def command() -> None:
    """List, count and revoke sessions.

    These commands call a running service: name it with --target or --connection. docs/cli.md describes connections
    and exit codes.

    \b
    Examples:
      token-service sessions list --connection production --subject alice --active
      token-service sessions count --connection production --client web
      token-service sessions revoke --connection production --upstream corporate --dry-run
    """


for each in (reading.list_, selection.count, reading.get, selection.revoke, automatic.preview):
    command.add_command(each)

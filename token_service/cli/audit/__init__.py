"""`token-service audit`: the stored audit trail, in the database or at a running service."""

from __future__ import annotations

import click

from token_service.cli.audit import commands


@click.group("audit")
def command() -> None:
    """Read, verify and export the audit trail.

    With --target or --connection, `list` and `verify` call a running service. Otherwise the commands work directly on the
    database, even while no node runs. docs/audit.md explains the trail.

    \b
    Examples:
      token-service audit list --subject alice
      token-service audit list --connection production --since 24h
      token-service audit verify
      token-service audit export > audit.jsonl
    """


for each in (commands.list_, commands.verify, commands.export, commands.erase):
    command.add_command(each)

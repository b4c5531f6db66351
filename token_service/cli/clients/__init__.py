"""`token-service clients`: administration of the registered clients, in the database or at a running service.

Running nodes load a change of the database within moments: they poll the revision of the clients.
"""

from __future__ import annotations

import click

from token_service.cli.clients import commands


@click.group("clients")
def command() -> None:
    """Administer the registered clients.

    With --target or --connection these commands call a running service. Otherwise they work directly on the database, even
    while no node runs, and need the settings of the service: the database and, if used, the policy file. Running
    nodes load a change automatically. docs/clients.md says when to use which command.

    \b
    Examples:
      token-service clients create --client-id web --file client.toml
      token-service clients list
      token-service clients list --connection production
      token-service clients disable web --comment "the secret was stolen"
    """


for each in (
    commands.create,
    commands.get,
    commands.list_,
    commands.update,
    commands.rotate_secret,
    commands.disable,
    commands.enable,
    commands.delete,
):
    command.add_command(each)

"""`token-service migrate`."""

from __future__ import annotations

import asyncio

import click

from token_service.cli.settings_options import SettingsCommand, settings_options
from token_service.config import Settings


@click.command("migrate", cls=SettingsCommand)
@settings_options
def command(settings: Settings) -> None:
    """Migrate the database to the current schema. Required in production; in development `serve` does it.

    Repeated and concurrent runs are safe.

    \b
    Examples:
      token-service migrate
      TOKEN_SERVICE_DATABASE_URL=postgresql://user:password@host/tokens token-service migrate
    """
    from token_service.app.administration import migrate

    click.echo(f"{settings.database_url} is at schema {asyncio.run(migrate(settings))}")

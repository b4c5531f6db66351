"""`token-service version`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from token_service import __version__

if TYPE_CHECKING:
    from token_service.config import Settings


@click.command("version")
@click.option("--check", "is_check", is_flag=True, help="Also compare the schema of the configured database.")
def command(*, is_check: bool) -> None:
    """Show the version. With `--check` fail if the schema of the database is newer than this version.

    \b
    Examples:
      token-service version
      TOKEN_SERVICE_DATABASE_URL=postgresql://user:password@host/tokens token-service version --check
    """
    click.echo(__version__)
    if is_check:
        from token_service.cli.settings_options import settings_options

        settings_options(_check)()


def _check(settings: Settings) -> None:
    import asyncio

    from token_service.app.administration import missing_migrations

    revision, missing = asyncio.run(missing_migrations(settings))
    if not missing:
        click.echo(f"{settings.database_url} is at schema {revision}, which this version needs")
        return
    where = "has no schema" if revision is None else f"is at schema {revision}"
    click.echo(
        f"{settings.database_url} {where}; this version needs {missing[-1].revision}: run `token-service migrate`"
    )

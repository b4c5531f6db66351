"""`token-service personal-data`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import show_json
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.settings_options import settings_options
from token_service.config import Settings

if TYPE_CHECKING:
    from token_service.app.personal_data import PersonalDataAdministration

T = TypeVar("T")


@click.group("personal-data")
def command() -> None:
    """Administer the encryption of personal data in the database.

    These commands work directly on the database, beside running nodes. docs/personal-data.md lists the encrypted columns.

    \b
    Examples:
      token-service personal-data status
      token-service personal-data encrypt
      token-service personal-data rotate-key
    """


@command.command("status", cls=SettingsCommand)
@settings_options
@click.option(
    "-o",
    "--output",
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The output format.",
)
def status(settings: Settings, output: str) -> None:
    """Show whether personal data is encrypted, and how many rows are still to be converted.

    \b
    Examples:
      token-service personal-data status
      token-service personal-data status -o json
    """
    found = _on_database(settings, lambda data: data.status())
    if output == "json":
        show_json(
            {
                "state": found.state.name.lower(),
                "data_key": found.data_key,
                "remaining": dict(found.remaining),
            }
        )
        return
    click.echo(f"state      {found.state.name.lower()}")
    click.echo(f"data key   {'none' if found.data_key is None else found.data_key}")
    for table, rows in found.remaining.items():
        click.echo(f"to convert {rows:>10,}  {table}")


@command.command("encrypt", cls=SettingsCommand)
@settings_options
@quiet_option
def encrypt(settings: Settings, *, quiet: bool) -> None:
    """Encrypt the personal data of the database, beside running nodes.

    A run that was interrupted goes on where it ended when the command is repeated. Nodes of earlier versions must have
    ended before.

    \b
    Examples:
      token-service personal-data encrypt
    """
    with Progress("rows", quiet=quiet) as progress:
        count = _on_database(settings, lambda data: data.encrypt(progress.show))
    click.echo(f"the personal data is encrypted; {count:,} rows were converted")


@command.command("decrypt", cls=SettingsCommand)
@settings_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@quiet_option
def decrypt(settings: Settings, *, yes: bool, quiet: bool) -> None:
    """Store the personal data unencrypted again, beside running nodes. Needed before the schema goes back before 0017.

    \b
    Examples:
      token-service personal-data decrypt --yes
    """
    if not yes:
        click.confirm("Store the personal data unencrypted?", abort=True)
    with Progress("rows", quiet=quiet) as progress:
        count = _on_database(settings, lambda data: data.decrypt(progress.show))
    click.echo(f"the personal data is not encrypted; {count:,} rows were converted")


@command.command("rotate-key", cls=SettingsCommand)
@settings_options
def rotate_key(settings: Settings) -> None:
    """Make a new data key, which encrypts all new values. Older values keep theirs.

    \b
    Examples:
      token-service personal-data rotate-key
    """
    version = _on_database(settings, lambda data: data.rotate_key())
    click.echo(f"data key {version} encrypts new values")


def _on_database(settings: Settings, work: Callable[[PersonalDataAdministration], Awaitable[T]]) -> T:
    from token_service.app.personal_data import administer_personal_data

    async def run() -> T:
        async with administer_personal_data(settings) as data:
            return await work(data)

    return asyncio.run(run())

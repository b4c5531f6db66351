"""`token-service keys rewrap`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.keys.administration import administer
from token_service.cli.settings_options import settings_options
from token_service.config import Settings

if TYPE_CHECKING:
    from token_service.app.administration import Keys


@click.command(
    "rewrap", cls=SettingsCommand, short_help="Encrypt all keys with the first key-encryption key."
)
@settings_options
def rewrap(settings: Settings) -> None:
    """Encrypt all keys, the headers of event streams and the secrets of webhooks with the first configured key-encryption key.

    The other key-encryption keys are not needed afterwards.

    Configure the first key on all nodes before you run this command: a node without it can no longer read the keys.
    Keys in an HSM need no encryption.

    \b
    Examples:
      TOKEN_SERVICE_KEY_ENCRYPTION_KEY="$NEW,$OLD" token-service keys rewrap
      token-service keys rewrap --key-encryption-key-file /run/secrets/keys
    """

    async def change(keys: Keys) -> int:
        return await keys.rewrap()

    count = administer(settings, change)
    click.echo(
        f"{count} keys were encrypted again, with the first key-encryption key"
        if count
        else "all keys were already encrypted with the first key-encryption key"
    )

"""`token-service clients create`, `get`, `list`, `update`, `rotate-secret`, `disable`, `enable` and `delete`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from token_service.cli.clients.administration import (
    administer,
    chosen_settings,
    client_id_argument,
    client_settings,
    comment_option,
    etag_option,
    output_option,
    show,
    show_all,
)
from token_service.cli.settings_options import SettingsCommand, settings_options
from token_service.config import Settings
from token_service.core.access.caller import Caller
from token_service.core.clients.client import Client, ClientMetadata
from token_service.durations import parse_duration

if TYPE_CHECKING:
    from token_service.core.administration.clients import ClientAdministration

_SYSTEM = Caller.system()


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write for example 90s, 24h or 30d") from None


_secret_ttl_option = click.option(
    "--secret-ttl", callback=_seconds, default=None, metavar="TIME", help="Lifetime of the secret, e.g. 90d."
)


@click.command("create", cls=SettingsCommand, short_help="Register a client.")
@settings_options
@output_option
@click.option("--client-id", default="", help="The id; by default a random one.")
@client_settings
@_secret_ttl_option
def create(
    settings: Settings,
    output: str,
    client_id: str,
    file: Path | None,
    secret_ttl: float | None,
    **options: Any,
) -> None:
    """Register a client. A secret is made if it authenticates with one, and shown this once.

    \b
    Examples:
      token-service clients create --client-id web --grant-type authorization_code --redirect-uri https://app.example/cb
      token-service clients create --client-id billing --token-endpoint-auth-method client_secret_basic
      token-service clients create --client-id app --file client.toml -o json
    """
    metadata = ClientMetadata(**chosen_settings(file, options))
    created = administer(
        settings,
        lambda clients: clients.create(_SYSTEM, client_id, metadata, time.time(), secret_ttl=secret_ttl),
    )
    show(created.client, output, created.secret)


@click.command("get", cls=SettingsCommand, short_help="Show a client.")
@settings_options
@output_option
@client_id_argument
def get(settings: Settings, output: str, client_id: str) -> None:
    """Show a client. Secrets are never shown.

    \b
    Example:
      token-service clients get web -o json
    """
    show(administer(settings, lambda clients: clients.get(_SYSTEM, client_id)), output)


@click.command("list", cls=SettingsCommand, short_help="Show all clients.")
@settings_options
@output_option
def list_(settings: Settings, output: str) -> None:
    """Show all clients that are not deleted, newest first.

    \b
    Examples:
      token-service clients list
      token-service clients list -o json
    """

    async def load(clients: ClientAdministration) -> Sequence[Client]:
        page = await clients.list(_SYSTEM, 200, "")
        found = [*page.clients]
        while page.next_page_token:
            page = await clients.list(_SYSTEM, 200, page.next_page_token)
            found += page.clients
        return found

    show_all(administer(settings, load), output)


@click.command("update", cls=SettingsCommand, short_help="Change settings of a client.")
@settings_options
@output_option
@client_id_argument
@client_settings
@etag_option
def update(
    settings: Settings, output: str, client_id: str, file: Path | None, etag: str, **options: Any
) -> None:
    """Change the named settings of a client. A list is replaced as a whole.

    \b
    Examples:
      token-service clients update web --redirect-uri https://app.example/cb --redirect-uri https://app.example/new
      token-service clients update web --file client.json --etag 7
    """
    changes = chosen_settings(file, options)
    if not changes:
        raise click.UsageError("name a setting to change, or a --file with settings")
    client = administer(
        settings, lambda clients: clients.update(_SYSTEM, client_id, changes, time.time(), etag=etag)
    )
    show(client, output)


@click.command("rotate-secret", cls=SettingsCommand, short_help="Make another secret.")
@settings_options
@output_option
@client_id_argument
@click.option(
    "--overlap",
    callback=_seconds,
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the current secret stays live; 0s: it ends at once.",
)
@_secret_ttl_option
@etag_option
def rotate_secret(
    settings: Settings,
    output: str,
    client_id: str,
    overlap: float,
    secret_ttl: float | None,
    etag: str,
) -> None:
    """Make another secret, which is shown this once. The current one stays live for a while.

    At most two secrets are live: a still older one ends at once.

    \b
    Examples:
      token-service clients rotate-secret billing
      token-service clients rotate-secret billing --overlap 0s
    """
    rotated = administer(
        settings,
        lambda clients: clients.rotate_secret(
            _SYSTEM, client_id, time.time(), etag=etag, overlap=overlap, secret_ttl=secret_ttl
        ),
    )
    show(rotated.client, output, rotated.secret)


@click.command("disable", cls=SettingsCommand, short_help="Disable a client and revoke its tokens.")
@settings_options
@output_option
@client_id_argument
@comment_option
@etag_option
def disable(settings: Settings, output: str, client_id: str, comment: str, etag: str) -> None:
    """Refuse a client further tokens, and revoke all that it has, in one transaction.

    Succeeds if the client is disabled already.

    \b
    Example:
      token-service clients disable web --comment "the secret was stolen"
    """
    disabled = administer(
        settings,
        lambda clients: clients.disable(_SYSTEM, client_id, time.time(), etag=etag, comment=comment),
    )
    show(disabled.client, output)


@click.command("enable", cls=SettingsCommand, short_help="Enable a disabled client.")
@settings_options
@output_option
@client_id_argument
@etag_option
def enable(settings: Settings, output: str, client_id: str, etag: str) -> None:
    """Let a disabled client get tokens again. Revoked tokens stay revoked.

    \b
    Example:
      token-service clients enable web
    """
    show(
        administer(settings, lambda clients: clients.enable(_SYSTEM, client_id, time.time(), etag=etag)),
        output,
    )


@click.command("delete", cls=SettingsCommand, short_help="Delete a client and revoke its tokens.")
@settings_options
@client_id_argument
@comment_option
@etag_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(settings: Settings, client_id: str, comment: str, etag: str, *, yes: bool) -> None:
    """Delete a client and revoke all its tokens, in one transaction. Its id is never given to another client.

    \b
    Example:
      token-service clients delete web --yes
    """
    if not yes:
        click.confirm(f"Delete the client {client_id} and revoke all its tokens?", abort=True)
    administer(
        settings,
        lambda clients: clients.delete(_SYSTEM, client_id, time.time(), etag=etag, comment=comment),
    )

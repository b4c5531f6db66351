"""`token-service clients create`, `get`, `list`, `update`, `rotate-secret`, `disable`, `enable` and `delete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from token_service.cli.clients.actions import clients_of
from token_service.cli.clients.administration import (
    chosen_settings,
    client_id_argument,
    client_settings,
    comment_option,
    etag_option,
    show,
    show_all,
)
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option
from token_service.cli.remote.place import place_options
from token_service.cli.values import seconds
from token_service.config import Settings
from token_service.core.clients.client import ClientMetadata

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


_secret_ttl_option = click.option(
    "--secret-ttl", callback=seconds, default=None, metavar="TIME", help="Lifetime of the secret, e.g. 90d."
)


@click.command("create", cls=SettingsCommand, short_help="Register a client.")
@place_options
@output_option
@click.option("--client-id", default="", help="The id; by default a random one.")
@client_settings
@_secret_ttl_option
def create(
    place: Settings | Service,
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
    client, secret = clients_of(place).create(client_id, metadata, secret_ttl)
    show(client, output, secret)


@click.command("get", cls=SettingsCommand, short_help="Show a client.")
@place_options
@output_option
@client_id_argument
def get(place: Settings | Service, output: str, client_id: str) -> None:
    """Show a client. Secrets are never shown.

    \b
    Example:
      token-service clients get web -o json
    """
    show(clients_of(place).get(client_id), output)


@click.command("list", cls=SettingsCommand, short_help="Show all clients.")
@place_options
@output_option
def list_(place: Settings | Service, output: str) -> None:
    """Show all clients that are not deleted, newest first.

    \b
    Examples:
      token-service clients list
      token-service clients list -o json
    """
    show_all(clients_of(place).list(), output)


@click.command("update", cls=SettingsCommand, short_help="Change settings of a client.")
@place_options
@output_option
@client_id_argument
@client_settings
@etag_option
def update(
    place: Settings | Service, output: str, client_id: str, file: Path | None, etag: str, **options: Any
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
    show(clients_of(place).update(client_id, changes, etag), output)


@click.command("rotate-secret", cls=SettingsCommand, short_help="Make another secret.")
@place_options
@output_option
@client_id_argument
@click.option(
    "--overlap",
    callback=seconds,
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the current secret stays live; 0s: it ends at once.",
)
@_secret_ttl_option
@etag_option
def rotate_secret(
    place: Settings | Service,
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
    client, secret = clients_of(place).rotate_secret(client_id, etag, overlap, secret_ttl)
    show(client, output, secret)


@click.command("disable", cls=SettingsCommand, short_help="Disable a client and revoke its tokens.")
@place_options
@output_option
@client_id_argument
@comment_option
@etag_option
def disable(place: Settings | Service, output: str, client_id: str, comment: str, etag: str) -> None:
    """Refuse a client further tokens, and revoke all that it has, in one transaction.

    Succeeds if the client is disabled already.

    \b
    Example:
      token-service clients disable web --comment "the secret was stolen"
    """
    show(clients_of(place).disable(client_id, etag, comment), output)


@click.command("enable", cls=SettingsCommand, short_help="Enable a disabled client.")
@place_options
@output_option
@client_id_argument
@etag_option
def enable(place: Settings | Service, output: str, client_id: str, etag: str) -> None:
    """Let a disabled client get tokens again. Revoked tokens stay revoked.

    \b
    Example:
      token-service clients enable web
    """
    show(clients_of(place).enable(client_id, etag), output)


@click.command("delete", cls=SettingsCommand, short_help="Delete a client and revoke its tokens.")
@place_options
@client_id_argument
@comment_option
@etag_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(place: Settings | Service, client_id: str, comment: str, etag: str, *, yes: bool) -> None:
    """Delete a client and revoke all its tokens, in one transaction. Its id is never given to another client.

    \b
    Example:
      token-service clients delete web --yes
    """
    if not yes:
        click.confirm(f"Delete the client {client_id} and revoke all its tokens?", abort=True)
    clients_of(place).delete(client_id, etag, comment)

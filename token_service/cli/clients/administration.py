"""Helpers of the client commands: read settings and show clients."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from msgspec import structs

from token_service.cli.output import show_table, time_text
from token_service.core.clients.client import (
    METADATA_FIELDS,
    AuthMethod,
    Client,
    ClientMetadata,
    SecurityProfile,
    SubjectType,
)
from token_service.core.policies.rights import parse_rights
from token_service.errors import ConfigurationError
from token_service.files import read_regular
from token_service.suggestions import did_you_mean
from token_service.tokens.secret import Secret

F = TypeVar("F", bound=Callable[..., Any])

_MAX_FILE: Final = 256 * 1024

etag_option = click.option("--etag", default="", help="Refuse the change if the client has another etag.")
comment_option = click.option("--comment", default="", help="A remark for the audit trail.")
client_id_argument = click.argument("client_id")
_SETTINGS: Final = (
    click.option(
        "--file",
        type=click.Path(path_type=Path),
        default=None,
        help="A JSON or TOML file with settings of the client, by their names in RFC 7591.",
    ),
    click.option("--client-name", default=None, help="A name for people."),
    click.option(
        "--token-endpoint-auth-method",
        type=click.Choice([method.value for method in AuthMethod]),
        default=None,
        help="How the client authenticates itself.",
    ),
    click.option("--grant-type", "grant_types", multiple=True, help="A grant type; may be repeated."),
    click.option("--scope", "scopes", multiple=True, help="A scope it may get; may be repeated."),
    click.option("--audience", "audiences", multiple=True, help="An audience it may get; may be repeated."),
    click.option("--redirect-uri", "redirect_uris", multiple=True, help="A redirect URI; may be repeated."),
    click.option(
        "--subject-type",
        type=click.Choice([kind.value for kind in SubjectType]),
        default=None,
        help="What the sub of its ID tokens is: the subject itself, or another one for each sector.",
    ),
    click.option("--sector-identifier-uri", default=None, help="URL of the list of URIs of its sector."),
    click.option("--jwks-uri", default=None, help="URL of the keys of a private_key_jwt client."),
    click.option("--classification", default=None, help="Security classification, one of the policy file."),
    click.option(
        "--dpop-bound-access-tokens/--no-dpop-bound-access-tokens",
        default=None,
        help="Whether its access tokens must be bound to a key by DPoP.",
    ),
    click.option(
        "--tls-client-certificate-bound-access-tokens/--no-tls-client-certificate-bound-access-tokens",
        default=None,
        help="Whether its access tokens must be bound to its client certificate.",
    ),
    click.option(
        "--require-pushed-authorization-requests/--no-require-pushed-authorization-requests",
        default=None,
        help="Whether it must push its authorization requests (RFC 9126).",
    ),
    click.option(
        "--security-profile",
        type=click.Choice([profile.value for profile in SecurityProfile]),
        default=None,
        help="Rules that it obeys besides those for all clients.",
    ),
)


def client_settings(function: F) -> F:
    """Add an option for each frequent setting of a client, and one for a file with any of them."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


def chosen_settings(file: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, with those of the command line instead of or besides them.

    Raises `click.UsageError` for a file that can't be used, and for an unknown setting.
    """
    document = {} if file is None else _read(file)
    document |= {name: value for name, value in options.items() if value not in (None, ())}
    names = list(document)
    for name in names:
        if name not in METADATA_FIELDS:
            raise click.UsageError(
                f"{name}: no such setting of a client; allowed: {', '.join(METADATA_FIELDS)}"
                f"{did_you_mean(name, METADATA_FIELDS)}"
            )
    if isinstance(document.get("jwks"), dict):
        document["jwks"] = json.dumps(document["jwks"])
    try:
        rights = parse_rights(document.pop("rights", []))
        metadata = structs.replace(msgspec.convert(document, ClientMetadata), rights=rights)
    except (msgspec.ValidationError, ConfigurationError) as error:
        raise click.UsageError(f"the settings of the client can't be used: {error}") from None
    return {name: getattr(metadata, name) for name in names}


def _read(file: Path) -> dict[str, Any]:
    try:
        text = read_regular(file, _MAX_FILE).decode()
        document = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise click.UsageError(f"{file} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        raise click.UsageError(f"{file} is not {kind}: {error}") from None
    if not isinstance(document, dict):
        raise click.UsageError(f"{file} is not a JSON object")
    return document


def show(client: Client, output: str, secret: Secret | None = None) -> None:
    """Print a client, with the secret that was just made for it."""
    text = None if secret is None else secret.reveal().decode()
    if output == "json":
        members = _members(client)
        click.echo(json.dumps(members if text is None else {**members, "client_secret": text}, indent=2))
        return
    _show_table([client])
    if text is not None:
        click.echo(f"client_secret: {text}")
        click.echo("The secret can't be shown again.", err=True)


def show_all(clients: Sequence[Client], output: str) -> None:
    """Print clients as a table or a JSON list."""
    if output == "json":
        click.echo(json.dumps([_members(client) for client in clients], indent=2))
    elif clients:
        _show_table(clients)


def _show_table(clients: Sequence[Client]) -> None:
    show_table(
        ("CLIENT ID", "STATE", "AUTHENTICATION", "CLASSIFICATION", "CREATED", "NAME"),
        [
            (
                client.client_id,
                client.state.value,
                client.token_endpoint_auth_method.value,
                client.classification or "-",
                time_text(client.create_time),
                client.client_name,
            )
            for client in clients
        ],
    )


def _members(client: Client) -> dict[str, Any]:
    settings = {
        name: msgspec.to_builtins(value)
        for name in METADATA_FIELDS
        if (value := getattr(client, name)) not in ("", (), False)
    }
    return {
        "client_id": client.client_id,
        **settings,
        "state": client.state.value,
        "secrets": [
            {
                "secret_id": secret.secret_id,
                "create_time": _time(secret.create_time),
                "expire_time": _time(secret.expire_time),
                "last_use_time": _time(secret.last_use_time),
            }
            for secret in client.secrets
        ],
        "create_time": _time(client.create_time),
        "update_time": _time(client.update_time),
        "etag": client.etag,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)

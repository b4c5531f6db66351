"""`token-service tokens issue`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_message, timestamp_text
from token_service.cli.remote.options import service_options
from token_service.cli.values import seconds

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_TYPES: Final = ("access", "refresh", "id", "session")

print_option: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--print",
    "only",
    type=click.Choice([f"{kind}_token" for kind in _TYPES]),
    default=None,
    help="Print one token and nothing else, for scripts.",
)


@click.command("issue", cls=SettingsCommand, short_help="Issue tokens for a subject.")
@service_options
@output_option
@print_option
@click.option("--subject", required=True, help="The subject of the tokens.")
@click.option("--client-id", required=True, help="The client that gets the tokens.")
@click.option("--audience", multiple=True, help="An audience; may be repeated.")
@click.option("--scope", "scopes", multiple=True, help="A scope; may be repeated.")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(_TYPES),
    help="A type of token; may be repeated. Default: access and refresh.",
)
@click.option(
    "--access-token-ttl",
    callback=seconds,
    metavar="TIME",
    default=None,
    help="Life of the access token, e.g. 5m.",
)
@click.option(
    "--refresh-token-ttl",
    callback=seconds,
    metavar="TIME",
    default=None,
    help="Life of the refresh token, e.g. 30d.",
)
@click.option("--device-id", default="", help="The device that the session is bound to.")
@click.option("--acr", default="", help="How the subject was authenticated: authentication context class.")
@click.option("--amr", multiple=True, help="A method of authentication; may be repeated.")
@click.option("--claims", default=None, metavar="JSON", help="Custom claims, as a JSON object.")
@click.option("--nonce", default="", help="The `nonce` of the ID token.")
@click.option("--request-id", default="", help="A name of this request: a repeated one gets the same tokens.")
def command(
    service: Service,
    output: str,
    only: str | None,
    types: Sequence[str],
    *,
    access_token_ttl: float | None,
    refresh_token_ttl: float | None,
    acr: str,
    amr: Sequence[str],
    claims: str | None,
    **fields: Any,
) -> None:
    """Issue tokens for a subject and a client. The caller needs the permission `issue`.

    The tokens go to standard output: redirect it to a file that only you can read.

    \b
    Examples:
      token-service tokens issue --target 127.0.0.1:50051 --subject alice --client-id web --scope read
      token-service tokens issue --connection production --subject alice --client-id web --print access_token > token
    """
    from token_service.v1.token_service_pb2 import IssueTokenRequest

    request = IssueTokenRequest(token_types=[f"TOKEN_TYPE_{kind.upper()}" for kind in types], **fields)
    if access_token_ttl is not None:
        request.access_token_ttl.FromMilliseconds(round(access_token_ttl * 1000))
    if refresh_token_ttl is not None:
        request.refresh_token_ttl.FromMilliseconds(round(refresh_token_ttl * 1000))
    if acr or amr:
        request.auth_context.acr = acr
        request.auth_context.amr[:] = amr
    if claims is not None:
        request.custom_claims.update(_object(claims))
    show_issued(service.call(service.tokens.IssueToken, request), output, only)


def show_issued(response: Any, output: str, only: str | None) -> None:
    """Print the response of IssueToken or RefreshToken, or one of its tokens."""
    if only is None:
        show_message(response, output, _lines)
        return
    token: str = getattr(response, only)
    if not token:
        raise click.ClickException(f"no {only} was issued; name its type with --type")
    click.echo(token)


def _lines(response: Any) -> Sequence[tuple[str, str]]:
    return [
        ("access_token", response.access_token),
        ("expires", timestamp_text(response, "access_token_expire_time") if response.access_token else ""),
        ("token_type", response.token_type),
        ("refresh_token", response.refresh_token),
        ("expires", timestamp_text(response, "refresh_token_expire_time") if response.refresh_token else ""),
        ("id_token", response.id_token),
        ("session_token", response.session_token),
        ("session_id", response.session_id),
        ("token_id", response.token_id),
        ("scopes", " ".join(response.scopes)),
    ]


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise click.UsageError("--claims: is no JSON object")
    return document

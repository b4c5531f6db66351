"""`token-service tokens refresh`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option
from token_service.cli.remote.options import service_options
from token_service.cli.tokens.issue import print_option, show_issued
from token_service.cli.tokens.token_input import token_input

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command("refresh", cls=SettingsCommand, short_help="Exchange a refresh token for new tokens.")
@service_options
@token_input()
@output_option
@print_option
@click.option("--client-id", required=True, help="The client that the refresh token belongs to.")
@click.option("--device-id", default="", help="The device that the session is bound to.")
@click.option("--scope", "scopes", multiple=True, help="A scope of the access token; may be repeated.")
@click.option("--audience", multiple=True, help="An audience of the access token; may be repeated.")
def command(
    service: Service,
    token: str,
    output: str,
    only: str | None,
    *,
    client_id: str,
    device_id: str,
    scopes: Sequence[str],
    audience: Sequence[str],
) -> None:
    """Exchange a refresh token for an access token and the next refresh token. The old one is used up.

    Exit code 6 if the refresh token is refused.

    \b
    Examples:
      token-service tokens refresh --target 127.0.0.1:50051 --client-id web < refresh_token
      token-service tokens refresh --connection production --client-id web --token-file refresh_token -o json
    """
    from token_service.v1.token_service_pb2 import RefreshTokenRequest

    request = RefreshTokenRequest(
        refresh_token=token, client_id=client_id, device_id=device_id, scopes=scopes, audience=audience
    )
    show_issued(service.call(service.tokens.RefreshToken, request), output, only)

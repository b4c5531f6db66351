"""`token-service tokens validate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_message, timestamp_text
from token_service.cli.remote.options import answer_no, service_options
from token_service.cli.tokens.token_input import token_input

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command("validate", cls=SettingsCommand, short_help="Ask whether a token is valid now.")
@service_options
@token_input()
@output_option
@click.option("--audience", default="", help="An audience that the token must have.")
@click.option("--scope", "scopes", multiple=True, help="A scope that the token must have; may be repeated.")
@click.option(
    "--strong", is_flag=True, help="Consider every revocation that was acknowledged before this call."
)
def command(
    service: Service, token: str, output: str, audience: str, scopes: Sequence[str], *, strong: bool
) -> None:
    """Ask whether a token is valid now, and show its claims. Exit code 6 if it is not.

    The caller needs the permission `validate`. A token that is bound to a key is judged without a proof of the key.

    \b
    Examples:
      token-service tokens validate --target 127.0.0.1:50051 < token
      token-service tokens validate --connection production --token-file token --audience api --strong -o json
    """
    from token_service.v1 import token_service_pb2 as pb

    request = pb.ValidateTokenRequest(
        token=token,
        audience=audience,
        required_scopes=scopes,
        consistency=pb.CONSISTENCY_STRONG if strong else pb.CONSISTENCY_UNSPECIFIED,
        caller_checks_binding=True,
    )
    response = service.call(service.tokens.ValidateToken, request)
    show_message(response, output, _lines)
    if not response.active:
        answer_no()


def _lines(response: Any) -> Sequence[tuple[str, str]]:
    from token_service.v1 import token_pb2, token_service_pb2 as pb

    if not response.active:
        reason = pb.InvalidReason.Name(response.reason).removeprefix("INVALID_REASON_")
        return [("active", "no"), ("reason", reason)]
    claims = response.claims
    custom = dict(claims.custom_claims)
    return [
        ("active", "yes"),
        ("type", token_pb2.TokenType.Name(claims.token_type).removeprefix("TOKEN_TYPE_").lower()),
        ("subject", claims.subject),
        ("client_id", claims.client_id),
        ("audience", " ".join(claims.audience)),
        ("scopes", " ".join(claims.scopes)),
        ("session_id", claims.session_id),
        ("token_id", claims.token_id),
        ("issuer", claims.issuer),
        ("issued", timestamp_text(claims, "issue_time")),
        ("expires", timestamp_text(claims, "expire_time")),
        ("bound_to", claims.confirmation.jkt or claims.confirmation.x5t_s256),
        ("custom_claims", json.dumps(custom, default=str) if custom else ""),
    ]

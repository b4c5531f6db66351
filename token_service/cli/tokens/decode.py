"""`token-service tokens decode`: the content of a token, without any check."""

from __future__ import annotations

from typing import Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, time_text, visible
from token_service.cli.tokens.token_input import token_input

_OPAQUE: Final = {
    "rt_": "refresh token",
    "st_": "session token",
    "tspat_": "personal access token",
    "tscs_": "client secret",
}
_TIMES: Final = ("exp", "iat", "nbf", "auth_time")
_WARNING: Final = "NOT VERIFIED: this may be forged. Ask `token-service tokens validate` whether it is valid."


@click.command("decode", cls=SettingsCommand, short_help="Show the content of a token, unverified.")
@token_input()
@output_option
def command(token: str, output: str) -> None:
    """Show the header and the claims of a token, without any check of it. Calls no service.

    Do not trust the content, which may be forged. The signature is not shown, so the output is not usable as a token.
    An opaque token has no readable content; its kind is shown.

    \b
    Examples:
      token-service tokens decode < token
      token-service tokens decode --token-file token -o json
    """
    for prefix, kind in _OPAQUE.items():
        if token.startswith(prefix):
            _show({"kind": kind, "format": "opaque"}, output)
            return
    header, claims = _unverified_parts(token)
    _show({"kind": header.get("typ", "JWT"), "header": header, "claims": claims}, output)


def _unverified_parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from token_service.tokens import base64url
    from token_service.tokens.strict_json import decode_object

    parts = token.split(".")
    if len(parts) == 5:
        raise click.ClickException("the token is encrypted (JWE), so its claims can't be read")
    if len(parts) != 3:
        raise click.ClickException(
            "this is no token of the service: neither three parts separated by dots nor an opaque token"
        )
    try:
        header, claims = (decode_object(base64url.decode(part.encode())) for part in parts[:2])
    except ValueError:
        raise click.ClickException(
            "the token is malformed: header or claims are not JSON in base64url"
        ) from None
    return header, claims


def _show(content: dict[str, Any], output: str) -> None:
    if output == "json":
        show_json({"verified": False, **content})
        return
    import json

    click.echo(_WARNING, err=True)
    click.echo(f"unverified {visible(str(content['kind']))}")
    for part in ("header", "claims"):
        for name, value in content.get(part, {}).items():
            text = value if isinstance(value, str) else json.dumps(value)
            if part == "claims" and name in _TIMES and type(value) in {int, float}:
                text = _with_time(text, value)
            click.echo(f"  {part}.{visible(name)}  {visible(text)}")


def _with_time(text: str, seconds: float) -> str:
    try:
        return f"{text} ({time_text(seconds)})"
    except (ValueError, OverflowError, OSError):
        return text

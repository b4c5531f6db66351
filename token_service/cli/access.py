"""`token-service access`."""

from __future__ import annotations

import json
import os

import click
import msgspec

from token_service.cli.settings_options import settings_options
from token_service.config import Settings
from token_service.config.policy_file import PolicyFile
from token_service.core.access.explain import AskedCall, Explanation, explain
from token_service.core.access.gate import UseCase
from token_service.core.policies.rights import May
from token_service.tokens.claims import TokenKind

_KINDS = {kind.name.lower(): kind for kind in TokenKind}


@click.group("access")
def command() -> None:
    """Explain the rights of callers.

    \b
    Examples:
      token-service access explain --caller gateway.example.org --call StreamRevocations
    """


@command.command("explain")
@settings_options
@click.option(
    "--caller",
    "names",
    metavar="NAME",
    required=True,
    multiple=True,
    help="A SPIFFE ID or DNS name that the caller proves. Repeat it for a certificate with several names.",
)
@click.option(
    "--call", "call", required=True, type=click.Choice([each.value for each in UseCase]), help="The call."
)
@click.option("--client", "client_id", default="", help="`client_id` in the request.")
@click.option("--subject", default="", help="`subject` in the request; the client itself if left out.")
@click.option("--audience", multiple=True, help="An audience in the request. Repeatable.")
@click.option("--scope", "scopes", multiple=True, help="A scope in the request. Repeatable.")
@click.option(
    "--token-type",
    "token_types",
    multiple=True,
    type=click.Choice(list(_KINDS)),
    default=["access"],
    show_default=True,
    help="A token type in the request. Repeatable.",
)
@click.option(
    "--with",
    "uses",
    multiple=True,
    type=click.Choice([each.value for each in May]),
    help="A guarded part of the request.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain_command(
    settings: Settings,
    names: tuple[str, ...],
    call: str,
    client_id: str,
    subject: str,
    audience: tuple[str, ...],
    scopes: tuple[str, ...],
    token_types: tuple[str, ...],
    uses: tuple[str, ...],
    output: str,
) -> None:
    """Tell whether the policy file allows a caller to make a call, and why.

    Reads the policy file only; no node runs. Exits with 1 if the call would be denied.

    \b
    Examples:
      token-service access explain --caller gateway.example.org --call StreamRevocations
      token-service access explain --caller spiffe://example.org/login --call IssueToken \\
          --client web --subject alice --scope orders:read --token-type access --token-type refresh
    """
    asked = AskedCall(
        use_case=UseCase(call),
        client_id=client_id,
        subject=subject or client_id,
        audience=audience,
        scopes=scopes,
        token_types=[_KINDS[name] for name in token_types],
        uses=frozenset(map(May, uses)),
    )
    document = PolicyFile.of(settings, os.environ).load()
    answer = explain(document.callers, names, asked)
    click.echo(_json(answer) if output == "json" else _text(answer))
    if not answer.allowed:
        click.get_current_context().exit(1)


def _text(answer: Explanation) -> str:
    lines = [f"{'allowed' if answer.allowed else 'denied'}: {answer.why}"]
    lines += [f'  from [callers."{entry}"]' for entry in answer.entries]
    for right in answer.rights:
        bounds = {
            name: value
            for name, value in msgspec.to_builtins(right).items()
            if value and name != "permission"
        }
        lines.append(f"  right: {right.permission} {json.dumps(bounds)}")
    return "\n".join(lines)


def _json(answer: Explanation) -> str:
    return json.dumps(
        {
            "allowed": answer.allowed,
            "why": answer.why,
            "permission": answer.permission,
            "entries": answer.entries,
            "rights": msgspec.to_builtins(list(answer.rights)),
        }
    )

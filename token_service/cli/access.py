"""`token-service access`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click
import msgspec

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import visible
from token_service.cli.remote.place import place_options
from token_service.config import Settings
from token_service.config.policy_file import PolicyFile
from token_service.core.access.explain import AskedCall, Explanation, explain
from token_service.core.access.gate import UseCase
from token_service.core.policies.rights import May, Permission, Right
from token_service.tokens.claims import TokenKind

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.admin_service_pb2 import ExplainAccessResponse

_KINDS = {kind.name.lower(): kind for kind in TokenKind}


@click.group("access")
def command() -> None:
    """Explain the rights of callers.

    \b
    Examples:
      token-service access explain --caller gateway.example.org --call StreamRevocations
    """


@command.command("explain", cls=SettingsCommand)
@place_options
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
    place: Service | Settings,
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
    """Tell whether a caller may make a call, and why.

    With --target or --connection a running service answers, from its policy file and its registered clients; the caller
    needs `admin.read`. Otherwise the command reads the policy file only. Exits with 1 if the call would be denied.

    \b
    Examples:
      token-service access explain --connection production --caller web --call RevokeToken
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
    if isinstance(place, Settings):
        answer = explain(PolicyFile.of(place, os.environ).load().callers, names, asked)
    else:
        answer = _ask(place, names, asked)
    click.echo(_json(answer) if output == "json" else _text(answer))
    if not answer.allowed:
        click.get_current_context().exit(1)


def _ask(service: Service, names: tuple[str, ...], asked: AskedCall) -> Explanation:
    from token_service.v1.admin_service_pb2 import ExplainAccessRequest

    found = service.call(
        service.admin.ExplainAccess,
        ExplainAccessRequest(
            names=names,
            method=asked.use_case.value,
            client_id=asked.client_id,
            subject=asked.subject,
            audience=asked.audience,
            scopes=asked.scopes,
            token_types=[kind.name.lower() for kind in asked.token_types],
            uses=sorted(asked.uses),
        ),
    )
    try:
        return _explanation(found)
    except ValueError:
        raise CommandFailedError(
            f"the service at {service.connection.target} named a permission that this command does not know; update the "
            "command to the version of the service",
            ExitCode.FAILURE,
        ) from None


def _explanation(found: ExplainAccessResponse) -> Explanation:
    """Convert the answer. Raises `ValueError` for a permission of a newer version."""
    return Explanation(
        found.allowed,
        found.reason,
        Permission(found.permission) if found.permission else None,
        list(found.entries),
        [
            Right(
                permission=Permission(right.permission),
                clients=tuple(right.clients),
                audiences=tuple(right.audiences),
                scopes=tuple(right.scopes),
                token_types=tuple(right.token_types),
                may=tuple(map(May, right.may)),
                unbounded=right.unbounded,
            )
            for right in found.rights
        ],
    )


def _text(answer: Explanation) -> str:
    lines = [f"{'allowed' if answer.allowed else 'denied'}: {answer.why}"]
    lines += [
        f"  from client {entry.removeprefix('client:')}"
        if entry.startswith("client:")
        else f'  from [callers."{entry}"]'
        for entry in answer.entries
    ]
    for right in answer.rights:
        bounds = {
            name: value
            for name, value in msgspec.to_builtins(right).items()
            if value and name != "permission"
        }
        lines.append(f"  right: {right.permission} {json.dumps(bounds)}")
    return "\n".join(map(visible, lines))


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

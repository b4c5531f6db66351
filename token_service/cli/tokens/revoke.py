"""`token-service tokens revoke`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import (
    members,
    output_option,
    show_json,
    show_line,
    show_message,
    timestamp_text,
)
from token_service.cli.progress import quiet_option
from token_service.cli.remote.options import answer_no, service_options
from token_service.cli.tokens.revocation_target import target_options
from token_service.cli.tokens.token_input import token_input
from token_service.cli.values import seconds
from token_service.cli.waiting import revoke_and_wait
from token_service.tokens.revocation import RevocationReason

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.token_service_pb2 import RevokeTokenResponse

_REASONS: Final = [each.name.lower() for each in RevocationReason if each]


@click.command("revoke", cls=SettingsCommand, short_help="Revoke tokens, a session, a subject or more.")
@service_options
@token_input(required=False)
@target_options
@output_option
@click.option(
    "--reason", type=click.Choice(_REASONS), default=None, help="Why, for validators and the audit trail."
)
@click.option("--comment", default="", help="A remark for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Show what the revocation would reach, and revoke nothing.")
@click.option(
    "--wait",
    callback=seconds,
    default=None,
    metavar="TIME",
    help="Wait at most this long until every connected validator has confirmed. Exit code 6 if not all have.",
)
@quiet_option
@click.option("--yes", is_flag=True, help="Do not ask before everything is revoked.")
def command(
    service: Service,
    target: Mapping[str, Any],
    output: str,
    reason: str | None,
    comment: str,
    wait: float | None,
    *,
    dry_run: bool,
    quiet: bool,
    yes: bool,
) -> None:
    """Revoke a token, or all tokens of a session, subject, client or key. They are refused at once and permanently.

    Revoking something unknown, expired or revoked succeeds. The caller needs the permission `revoke`; --key and
    --everything need `admin.write`, and --dry-run needs `admin.read`.

    \b
    Examples:
      token-service tokens revoke --target 127.0.0.1:50051 - < token
      token-service tokens revoke --connection production --subject alice --dry-run
      token-service tokens revoke --connection production --subject alice --reason compromised \\
          --comment "laptop stolen" --wait 30s
    """
    from token_service.v1 import token_service_pb2 as pb

    if dry_run:
        _preview(service, target, output)
        return
    if "everything" in target and not yes:
        click.confirm(
            f"Revoke every token that the service at {service.connection.target} has issued?",
            abort=True,
            err=True,
        )
    request = pb.RevokeTokenRequest(
        comment=comment,
        reason=f"REVOCATION_REASON_{(reason or 'unspecified').upper()}",
        **target,
    )
    if wait is None:
        response = service.call(service.tokens.RevokeToken, request)
        show_message(response, output, lambda each: [("revoked", "yes"), ("cursor", each.cursor)])
        return
    counts = revoke_and_wait(service, request, wait, quiet=quiet)
    _show_waited(counts, output)
    if counts.subscribers_applied < counts.subscribers_connected:
        answer_no()


def _show_waited(counts: RevokeTokenResponse, output: str) -> None:
    if output == "json":
        show_json(members(counts))
        return
    show_line(f"revoked at {counts.cursor}")
    click.echo(
        f"{counts.subscribers_applied} of {counts.subscribers_connected} connected validators have confirmed"
    )
    if counts.subscribers_silent:
        click.echo(
            f"{counts.subscribers_silent} more do not confirm; they refuse the tokens as soon as they can't prove "
            "that they are up to date"
        )


def _preview(service: Service, target: Mapping[str, Any], output: str) -> None:
    from token_service.v1.admin_service_pb2 import PreviewRevocationRequest

    request = PreviewRevocationRequest(**target)
    show_message(service.call(service.admin.PreviewRevocation, request), output, _preview_lines)


def _preview_lines(preview: Any) -> Sequence[tuple[str, str]]:
    more = preview.clients_count - len(preview.clients)
    return [
        ("would revoke", preview.target),
        ("already revoked", "yes" if preview.already_revoked else "no"),
        ("sessions", str(preview.sessions)),
        ("subjects", str(preview.subjects)),
        ("clients", " ".join(preview.clients) + (f" and {more} more" if more > 0 else "")),
        ("tokens expire by", timestamp_text(preview, "tokens_expire_time")),
        ("validators", str(preview.subscribers)),
        *(("warning", each) for each in preview.warnings),
    ]

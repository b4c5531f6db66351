"""`token-service sessions count` and `revoke`: all sessions that meet conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, show_line, show_message, timestamp_text
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.remote.options import service_options
from token_service.cli.values import moment
from token_service.errors import ServiceError
from token_service.tokens.revocation import RevocationReason

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.session_service_pb2 import SessionSelection

_NAMES: Final = {"subject": "subject", "client": "client_id", "device": "device_id", "upstream": "upstream"}
_TIMES: Final = ("created_after", "created_before", "last_used_before")
_OPTIONS: Final = (
    click.option("--subject", default="", help="The subject of the session."),
    click.option("--client", default="", help="The client of the session."),
    click.option("--device", default="", help="The device that the session is bound to."),
    click.option("--upstream", default="", help="The upstream that authenticated the subject."),
    *(
        click.option(f"--{name.replace('_', '-')}", callback=moment, default=None, metavar="TIME", help=text)
        for name, text in (
            (
                "created_after",
                "It began at this time or later: a time (UTC), or a span before now such as 24h.",
            ),
            ("created_before", "It began before this time."),
            ("last_used_before", "Its last use was before this time."),
        )
    ),
)
_REASONS: Final = [each.name.lower() for each in RevocationReason if each]


def _selection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each condition, and call the command with `where`, a SessionSelection."""

    @wraps(function)
    def choose(**arguments: Any) -> None:
        from token_service.v1.session_service_pb2 import SessionSelection

        where = SessionSelection(**{field: arguments.pop(name) for name, field in _NAMES.items()})
        for name in _TIMES:
            if (value := arguments.pop(name)) is not None:
                getattr(where, name).FromMicroseconds(round(value * 1_000_000))
        if not where.ByteSize():
            raise click.UsageError("give a condition, such as --subject, --client or --last-used-before")
        function(where=where, **arguments)

    decorated: Callable[..., None] = choose
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


@click.command("count", cls=SettingsCommand)
@service_options
@_selection_options
@output_option
def count(service: Service, where: SessionSelection, output: str) -> None:
    """Count the active sessions that meet all conditions. The caller needs `admin.read`.

    \b
    Examples:
      token-service sessions count --target 127.0.0.1:50051 --subject alice
      token-service sessions count --connection production --client web --last-used-before 30d -o json
    """
    from token_service.v1.session_service_pb2 import CountSessionsRequest

    response = service.call(service.sessions.CountSessions, CountSessionsRequest(filter=where))
    show_message(response, output, _count_lines)


@click.command("revoke", cls=SettingsCommand)
@service_options
@_selection_options
@output_option
@click.option(
    "--reason", type=click.Choice(_REASONS), default=None, help="Why, for validators and the audit trail."
)
@click.option("--comment", default="", help="A remark for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Count the sessions, and revoke nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@quiet_option
def revoke(
    service: Service,
    where: SessionSelection,
    output: str,
    reason: str | None,
    comment: str,
    *,
    dry_run: bool,
    yes: bool,
    quiet: bool,
) -> None:
    """Revoke the sessions that meet all conditions, part by part.

    A command that failed can be repeated: what it revoked stays revoked. The caller needs `revoke`, and `admin.write`
    without --subject, --client, --device and --upstream.

    \b
    Examples:
      token-service sessions revoke --connection production --upstream corporate --dry-run
      token-service sessions revoke --connection production --client web --created-before 2026-11-01 --yes
    """
    from token_service.v1.session_service_pb2 import RevokeSessionsRequest

    request = RevokeSessionsRequest(
        filter=where, reason=f"REVOCATION_REASON_{(reason or 'unspecified').upper()}", comment=comment
    )
    if dry_run or not yes:
        request.dry_run = True
        found = service.call(service.sessions.RevokeSessions, request)
        if dry_run:
            show_message(found, output, _dry_run_lines)
            return
        if found.advice:
            show_line(f"Note: {found.advice}", err=True)
        click.confirm(f"Revoke {_number(found)} sessions?", abort=True, err=True)
        request.dry_run = False
    total, cursor = 0, ""
    try:
        with Progress("sessions revoked", quiet=quiet) as progress:
            while True:
                part = service.call(service.sessions.RevokeSessions, request)
                total += part.sessions
                cursor = part.cursor or cursor
                progress.show(total)
                if not part.next_page_token:
                    break
                request.page_token = part.next_page_token
    except (KeyboardInterrupt, ServiceError):
        click.echo(f"Stopped: {total} sessions are revoked. Repeat the command to revoke the rest.", err=True)
        raise
    if output == "json":
        show_json({"sessions": str(total), "cursor": cursor})
    else:
        click.echo(f"revoked {total} sessions")


def _number(found: Any) -> str:
    from token_service.v1 import session_service_pb2 as pb

    mark = {pb.COUNT_ACCURACY_AT_LEAST: "at least ", pb.COUNT_ACCURACY_ESTIMATE: "about "}
    return f"{mark.get(found.accuracy, '')}{found.sessions}"


def _count_lines(found: Any) -> Sequence[tuple[str, str]]:
    return [
        ("sessions", _number(found)),
        ("subjects", str(found.subjects)),
        ("clients", str(found.clients_count)),
        ("oldest", timestamp_text(found, "oldest_create_time")),
        *((f"  {each.client_id}", str(each.sessions)) for each in found.clients),
    ]


def _dry_run_lines(found: Any) -> Sequence[tuple[str, str]]:
    return [("would revoke", f"{_number(found)} sessions"), ("note", found.advice)]

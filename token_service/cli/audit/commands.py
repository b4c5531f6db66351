"""`token-service audit list`, `verify`, `export` and `erase`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import click

from token_service.cli.audit.trail import StoredTrail, Trail, on_trail, trail_of
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, show_line, show_table, time_text
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.remote.place import place_options
from token_service.cli.settings_options import settings_options
from token_service.cli.values import moment
from token_service.config import Settings
from token_service.core.limits import MAX_PAGE

if TYPE_CHECKING:
    from token_service.app.audit import AuditTrail
    from token_service.cli.remote.service import Service
    from token_service.core.events.chain import AuditRow


@click.command("list", cls=SettingsCommand)
@place_options
@output_option
@click.option("--actor", default="", help="The name of the caller, `user@host` of the operator, or the job.")
@click.option("--subject", default="", help="The subject of the token or session.")
@click.option("--session", default="", help="The id of the session.")
@click.option("--client", default="", help="The client of the token or session.")
@click.option("--action", multiple=True, help="An action such as `revoked`; may be repeated.")
@click.option(
    "--since",
    callback=moment,
    metavar="TIME",
    help="Only events at or after this time (UTC), or a span before now such as 24h.",
)
@click.option("--until", callback=moment, metavar="TIME", help="Only events before this time (UTC).")
@click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True, help="Events per page."
)
@click.option("--page-token", default="", help="The token that the previous page ended with.")
def list_(
    place: Settings | Service,
    output: str,
    *,
    actor: str,
    subject: str,
    session: str,
    client: str,
    action: Sequence[str],
    since: float | None,
    until: float | None,
    limit: int,
    page_token: str,
) -> None:
    """Show events, newest first.

    \b
    Examples:
      token-service audit list
      token-service audit list --subject alice --since 2026-11-30 -o json
      token-service audit list --action revoked --action refresh_token.reused
    """
    from token_service.core.events.store import AuditFilter

    where = AuditFilter(
        actor=actor,
        subject=subject,
        session_id=session,
        client_id=client,
        actions=tuple(action),
        since=since,
        until=until,
    )

    trail = trail_of(place)
    rows, next_page = trail.list(where, limit, page_token)
    show_rows(trail, rows, output)
    if next_page:
        show_line(f"There are more: --page-token {next_page}", err=True)


@click.command("verify", cls=SettingsCommand, short_help="Find changed, removed and inserted events.")
@place_options
@click.option(
    "--checkpoint",
    "file",
    type=click.File("rb"),
    default=None,
    help="A file of `audit export`: compare the trail with its checkpoint. Only for the database.",
)
@quiet_option
def verify(place: Settings | Service, file: BinaryIO | None, *, quiet: bool) -> None:
    """Verify that no event and no checkpoint was changed, removed, moved or inserted. Exit code 1 if one was.

    The last events of a chain can be removed together with the checkpoints that name them. That is found only with an
    exported checkpoint: keep exports in a place that the users of the database can't write to.

    \b
    Examples:
      token-service audit verify
      token-service audit verify --checkpoint audit.jsonl
    """
    from token_service.core.events.export import parse_checkpoint

    if file is not None and not isinstance(place, Settings):
        raise click.UsageError('--checkpoint needs the database: leave out the target, or give --target ""')
    try:
        exported = None if file is None else parse_checkpoint(file.read())
    except ValueError as error:
        raise click.ClickException(f"{getattr(file, 'name', '-')}: {error}") from None

    if isinstance(place, Settings):
        result = StoredTrail(place).verify(quiet=quiet, exported=exported)
    else:
        result = trail_of(place).verify(quiet=quiet)
    for finding in result.findings:
        show_line(str(finding))
    click.echo(
        f"{result.events} events in {result.chains} chains and {result.checkpoints} checkpoints verified, "
        f"{result.erased} events with erased personal fields: "
        + ("no finding" if result.is_intact else f"{len(result.findings)} findings")
    )
    if exported is None:
        click.echo(
            "Events that were removed from the end together with their checkpoints are found only with --checkpoint.",
            err=True,
        )
    if not result.is_intact:
        sys.exit(1)


@click.command("export", cls=SettingsCommand, short_help="Write all events and a signed checkpoint.")
@settings_options
@quiet_option
def export(settings: Settings, *, quiet: bool) -> None:
    """Write all events as JSON lines, and a signed checkpoint as the last line.

    \b
    Example:
      token-service audit export > audit.jsonl
    """
    from token_service.core.events.export import export as export_trail

    async def write(trail: AuditTrail) -> None:
        output = sys.stdout.buffer
        lines = 0
        with Progress("lines written", quiet=quiet or sys.stdout.isatty()) as progress:
            async for line in export_trail(trail.store, time.time()):
                output.write(line)
                lines += 1
                progress.show(lines)
        output.flush()

    on_trail(settings, write)


@click.command("erase", cls=SettingsCommand, short_help="Erase the personal fields of a subject's events.")
@settings_options
@click.option("--subject", required=True, help="The subject whose personal fields are erased.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def erase(settings: Settings, subject: str, *, yes: bool) -> None:
    """Erase the personal fields of all events of a subject and of its sessions.

    Erased are the subject, the subject on whose behalf a caller acted, comments, addresses and user agents. The events
    stay, and the trail still verifies. The erasure is an event itself. It can't be undone.

    \b
    Example:
      token-service audit erase --subject alice
    """
    if not yes:
        click.confirm(f"Erase the personal fields of all events of {subject}?", abort=True)

    async def change(trail: AuditTrail) -> int:
        return await trail.store.erase(trail.operator.actor(), subject)

    click.echo(f"erased the personal fields of {on_trail(settings, change)} events")


def show_rows(trail: Trail, rows: Sequence[AuditRow], output: str) -> None:
    """Print events."""
    if output == "json":
        show_json([trail.members_of(row) for row in rows])
        return
    show_table(
        ("TIME", "ACTION", "ACTOR", "TARGET", "SUBJECT", "CLIENT", "OUTCOME", "REASON"),
        [
            (
                time_text(row.time / 1_000_000),
                row.action,
                f"{row.actor_kind}:{row.actor_name}",
                ":".join(filter(None, (row.target_kind, row.target or row.session_id))),
                "(erased)" if row.is_erased else row.subject,
                row.client_id,
                row.outcome,
                " ".join(filter(None, (row.reason, row.comment))),
            )
            for row in rows
        ],
    )

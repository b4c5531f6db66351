"""`token-service audit`: the stored audit trail, directly in the database."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from token_service.cli.settings_options import SettingsCommand, settings_options
from token_service.config import Settings
from token_service.core.limits import MAX_PAGE

if TYPE_CHECKING:
    from token_service.app.audit import AuditTrail
    from token_service.core.events.chain import AuditRow

T = TypeVar("T")

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="The output format."
)


@click.group("audit")
def command() -> None:
    """Read, verify and export the audit trail.

    These commands work directly on the database, even while no node runs. docs/audit.md explains the trail.

    \b
    Examples:
      token-service audit list --subject alice
      token-service audit verify
      token-service audit export > audit.jsonl
    """


def _time(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("is no time such as 2026-11-30T08:00:00Z or 2026-11-30") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@command.command("list", cls=SettingsCommand)
@settings_options
@output_option
@click.option("--actor", default="", help="The name of the caller, `user@host` of the operator, or the job.")
@click.option("--subject", default="", help="The subject of the token or session.")
@click.option("--session", default="", help="The id of the session.")
@click.option("--client", default="", help="The client of the token or session.")
@click.option("--action", multiple=True, help="An action such as `revoked`; may be repeated.")
@click.option("--since", callback=_time, metavar="TIME", help="Only events at or after this time (UTC).")
@click.option("--until", callback=_time, metavar="TIME", help="Only events before this time (UTC).")
@click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True, help="Events per page."
)
@click.option("--page-token", default="", help="The token that the previous page ended with.")
def list_(
    settings: Settings,
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

    async def read(trail: AuditTrail) -> tuple[Sequence[AuditRow], str]:
        page = await trail.reports.list(trail.operator, where, limit, page_token)
        return page.rows, page.next_page_token

    rows, next_page = on_trail(settings, read)
    show_rows(rows, output)
    if next_page:
        click.echo(f"There are more: --page-token {next_page}", err=True)


@command.command("verify", cls=SettingsCommand, short_help="Find changed, removed and inserted events.")
@settings_options
@click.option(
    "--checkpoint",
    "file",
    type=click.File("rb"),
    default=None,
    help="A file of `audit export`: compare the trail with its checkpoint.",
)
def verify(settings: Settings, file: BinaryIO | None) -> None:
    """Verify that no event and no checkpoint was changed, removed, moved or inserted. Exit code 1 if one was.

    The last events of a chain can be removed together with the checkpoints that name them. That is found only with an
    exported checkpoint: keep exports in a place that the users of the database can't write to.

    \b
    Examples:
      token-service audit verify
      token-service audit verify --checkpoint audit.jsonl
    """
    from token_service.core.events.export import parse_checkpoint
    from token_service.core.events.verification import Verification, verify

    try:
        exported = None if file is None else parse_checkpoint(file.read())
    except ValueError as error:
        raise click.ClickException(f"{getattr(file, 'name', '-')}: {error}") from None

    async def check(trail: AuditTrail) -> Verification:
        return await verify(trail.store, exported)

    result = on_trail(settings, check)
    for finding in result.findings:
        click.echo(str(finding))
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


@command.command("export", cls=SettingsCommand, short_help="Write all events and a signed checkpoint.")
@settings_options
def export(settings: Settings) -> None:
    """Write all events as JSON lines, and a signed checkpoint as the last line.

    \b
    Example:
      token-service audit export > audit.jsonl
    """
    from token_service.core.events.export import export as export_trail

    async def write(trail: AuditTrail) -> None:
        output = sys.stdout.buffer
        async for line in export_trail(trail.store, time.time()):
            output.write(line)
        output.flush()

    on_trail(settings, write)


@command.command("erase", cls=SettingsCommand, short_help="Erase the personal fields of a subject's events.")
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


def on_trail(settings: Settings, work: Callable[[AuditTrail], Awaitable[T]]) -> T:
    """Do `work` on the trail of the database."""
    from token_service.app.audit import open_trail

    async def run() -> T:
        async with open_trail(settings) as trail:
            return await work(trail)

    return asyncio.run(run())


def show_rows(rows: Sequence[AuditRow], output: str) -> None:
    """Print events."""
    from token_service.core.events.export import members_of

    if output == "json":
        click.echo(json.dumps([members_of(row) for row in rows], indent=2))
        return
    table = [("TIME", "ACTION", "ACTOR", "TARGET", "SUBJECT", "CLIENT", "OUTCOME", "REASON")]
    table += [
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
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        click.echo(
            "  ".join(f"{visible(cell):<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def time_text(seconds: float) -> str:
    """Return a time as text in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def visible(text: str) -> str:
    """Return a text without characters that a terminal would interpret."""
    from token_service.telemetry.fields import escape

    return escape(text)

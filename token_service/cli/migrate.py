"""`token-service migrate`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.settings_options import settings_options
from token_service.config import Settings
from token_service.errors import StoreUnavailableError

_WAIT_INTERVAL: Final = 1.0
"""Seconds between two looks at the schema."""

if TYPE_CHECKING:
    from token_service.stores.sql.migrations.step import Step


@click.command("migrate", cls=SettingsCommand)
@settings_options
@click.option(
    "--check",
    "--dry-run",
    "is_check",
    is_flag=True,
    help="Change nothing. Show what would run, which older nodes go on, and what can't be undone.",
)
@click.option(
    "--wait",
    "is_wait",
    is_flag=True,
    help="Change nothing. Wait until another process has migrated the database.",
)
@click.option(
    "--undo-to",
    metavar="SCHEMA",
    help="Go back to this schema, for nodes of the version before. Deletes what the undone migrations added.",
)
@click.option("--yes", is_flag=True, help="Do not ask before something is done that can't be undone.")
@quiet_option
def command(
    settings: Settings, undo_to: str | None, *, is_check: bool, is_wait: bool, yes: bool, quiet: bool
) -> None:
    """Migrate the database to the current schema. Required in production; in development `serve` does it.

    Standard error says first what will run. Repeated and concurrent runs are safe. docs/upgrading.md has the order of
    the steps.

    \b
    Examples:
      token-service migrate --check
      token-service migrate
      token-service migrate --wait
      token-service migrate --undo-to 0004
      TOKEN_SERVICE_DATABASE_URL=postgresql://user:password@host/tokens token-service migrate
    """
    if is_wait and (is_check or undo_to is not None):
        raise click.UsageError("--wait excludes --check and --undo-to.")
    if is_wait:
        revision = asyncio.run(_wait(settings))
        click.echo(f"{settings.database_url} is at schema {revision}")
    elif undo_to is None:
        _migrate(settings, is_check=is_check, yes=yes, quiet=quiet)
    else:
        _undo(settings, undo_to, is_check=is_check, yes=yes, quiet=quiet)


def _migrate(settings: Settings, *, is_check: bool, yes: bool, quiet: bool) -> None:
    from token_service.app.administration import migrate, missing_migrations

    url = str(settings.database_url)
    current, missing = asyncio.run(missing_migrations(settings))
    planned = "\n".join(plan(url, current, missing))
    if is_check:
        click.echo(planned)
        return
    if current is not None and missing:
        click.echo(planned, err=True)
        if not yes and (final := _final(missing)):
            _confirm(f"{_names(final)} can't be undone")
    with Progress("migrations", quiet=quiet) as progress:
        revision = asyncio.run(migrate(settings, progress.show))
    click.echo(f"{url} is at schema {revision}")


async def _wait(settings: Settings) -> str:
    """Return the revision of the schema as soon as it is the one that this version needs.

    Also waits for a database that does not answer. Raises `NewerSchemaError` and `ConfigurationError`.
    """
    from token_service.app.administration import missing_migrations

    shown = ""
    while True:
        try:
            revision, missing = await missing_migrations(settings)
        except StoreUnavailableError as error:
            state = error.message
        else:
            if revision is not None and not missing:
                return revision
            where = "has no schema" if revision is None else f"is at schema {revision}"
            state = f"{settings.database_url} {where}, this version needs {missing[-1].revision}"
        if state != shown:
            click.echo(f"waiting for `token-service migrate`: {state}", err=True)
            shown = state
        await asyncio.sleep(_WAIT_INTERVAL)


def _undo(settings: Settings, to: str, *, is_check: bool, yes: bool, quiet: bool) -> None:
    from token_service.app.administration import undo_migrations, undoable_migrations

    url = str(settings.database_url)
    current, undone = asyncio.run(undoable_migrations(settings, to))
    planned = "\n".join(_plan_of_undo(url, current, to, undone))
    if is_check:
        click.echo(planned)
        return
    if undone:
        click.echo(planned, err=True)
        if not yes and not _final(undone) and any(step.undo_loses for step in undone):
            _confirm("this deletes data that only a backup brings back")
    with Progress("migrations", quiet=quiet) as progress:
        asyncio.run(undo_migrations(settings, to, progress.show))
    click.echo(f"{url} is at schema {to}")


def _confirm(what: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailedError(
            f"{what}: make a backup, then run the command again with --yes. Nothing was changed",
            ExitCode.USAGE,
        )
    click.confirm(f"{what[0].upper()}{what[1:]}. Go on?", abort=True, err=True)


def plan(url: str, revision: str | None, missing: Sequence[Step]) -> Iterator[str]:
    """Return the lines that say what `migrate` will do, and what can be undone."""
    if not missing:
        yield f"{url} is at schema {revision}, which this version needs: `migrate` changes nothing"
        return
    head = missing[-1].revision
    if revision is None:
        yield f"{url} has no schema: `migrate` makes schema {head}"
        return
    yield f"{url} is at schema {revision}: `migrate` adds"
    for step in missing:
        yield f"  {step.revision}  {step.summary}"
        yield f"        {_undo_of(step)}"
    yield f"Nodes of version {_compatible_since(missing)} and later that run go on. Those before this version can't start again."
    if final := _final(missing):
        yield f"{_names(final)} can't be undone: only a backup brings schema {revision} back. Make one now; then use --yes."
    else:
        yield f"The way back to schema {revision} is `migrate --undo-to {revision}` of this version, or a backup: make one now."


def _plan_of_undo(url: str, revision: str | None, to: str, undone: Sequence[Step]) -> Iterator[str]:
    if not undone:
        yield f"{url} is at schema {revision}: `migrate --undo-to {to}` changes nothing"
        return
    yield f"{url} is at schema {revision}: `migrate --undo-to {to}` undoes"
    for step in undone:
        yield f"  {step.revision}  {step.summary}"
        yield f"        {_undo_of(step)}"
    yield f"Nodes of this version can't run on schema {to}: stop them before. Older nodes that run go on."


def _undo_of(step: Step) -> str:
    if step.undo_loses is None:
        return "can't be undone"
    return (
        f"undoing it deletes {step.undo_loses}"
        if step.undo_loses
        else "undoing it deletes nothing that is missed"
    )


def _final(steps: Iterable[Step]) -> Sequence[Step]:
    """Return the migrations that can't be undone."""
    return [step for step in steps if step.undo_loses is None]


def _names(steps: Sequence[Step]) -> str:
    numbers = ", ".join(step.revision for step in steps)
    return f"migration {numbers}" if len(steps) == 1 else f"migrations {numbers}"


def _compatible_since(steps: Sequence[Step]) -> str:
    """Return the oldest version whose nodes survive all these migrations."""
    return max(
        (step.compatible_since for step in steps), key=lambda text: [int(part) for part in text.split(".")]
    )

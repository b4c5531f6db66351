"""`token-service log`: administration of the revocation log, directly in the database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import show_json
from token_service.cli.settings_options import settings_options
from token_service.config import Settings

if TYPE_CHECKING:
    from token_service.core.revocation.log import LogHead, RevocationLog
    from token_service.core.revocation.log_renewal import Renewal

T = TypeVar("T")

_WHAT_IT_ENDS = """\
The revocation log of {database} is {epoch}, at entry {sequence}.
Renewing it ends every session and revokes every access and ID token issued until now, even tokens that the
database no longer knows. Every user must log in again; services get new tokens. You can't undo this."""

_WHAT_IT_KEEPS = """\
The revocation log of {database} is {epoch}, at entry {sequence}.
Renewing it with --nothing-lost revokes nothing. If the database lacks an acknowledged revocation, its tokens and
sessions become valid again."""

_KEPT = """\
The revocation log {before} continues as {after}. Nothing was revoked.
"""

_NEXT = """\
The revocation log {before} continues as {after}. Everything issued until now is refused.

Running nodes change to the new log within TOKEN_SERVICE_REPLICA_POLL_INTERVAL, validators with their next message.
They discard what they know of the old log.

Next:
  1. Revoke again the signing keys that were revoked after the backup was made: the database lacks these revocations.
       token-service keys list
       token-service keys revoke KEY_ID
  2. Make sure that no node is connected to the old database, such as a former primary of PostgreSQL.
"""


@click.group("log")
def command() -> None:
    """Administer the revocation log.

    These commands work directly on the database, even while no node runs. Running nodes load a change
    automatically. docs/restore.md explains when to use which command.

    \b
    Examples:
      token-service log show
      token-service log renew
    """


@command.command("show", cls=SettingsCommand)
@settings_options
@click.option(
    "-o",
    "--output",
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The output format.",
)
def show(settings: Settings, output: str) -> None:
    """Show the name of the revocation log and its last entry.

    The name (epoch) and the entry (sequence) form a cursor, as in validators and responses.

    \b
    Examples:
      token-service log show
      token-service log show -o json
    """
    head = _head(settings)
    if output == "json":
        show_json({"epoch": head.epoch, "sequence": head.sequence, "compacted": head.compacted})
    else:
        click.echo(f"{head.epoch}:{head.sequence}")


@command.command(
    "renew", cls=SettingsCommand, short_help="Revoke everything, after the database was restored."
)
@settings_options
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--epoch",
    metavar="EPOCH",
    help="Renew the log only if it still has this name (see `log show`), so that a repeated call changes nothing.",
)
@click.option(
    "--nothing-lost",
    is_flag=True,
    help="Revoke nothing: the database has every acknowledged commit, as after a planned failover.",
)
def renew(settings: Settings, *, yes: bool, epoch: str | None, nothing_lost: bool) -> None:
    """Renew the revocation log of a database that returned to an earlier state.

    Run this after a restore from a backup, or after a failover of PostgreSQL to a standby that was behind, if
    possible before nodes serve again. Such a database lacks revocations, so revoked tokens would be valid. One
    transaction gives the log another name, continues it at a sequence that no token issued until now can have seen,
    and revokes everything issued before.

    Nodes and validators refuse all earlier sessions and tokens, and accept everything issued afterwards. Signing
    keys stay unchanged.

    With --nothing-lost the log gets another name, and nothing is revoked. Use this option for a moved or failed-over
    database that is known to have every commit.

    \b
    Examples:
      token-service log renew
      token-service log renew --yes --epoch 4lu395P5jKpAjfte
      token-service log renew --nothing-lost
    """
    from token_service.app.administration import operator
    from token_service.core.revocation.log_renewal import LogChangedError, renew_log
    from token_service.telemetry import Audit

    head = _head(settings)
    if epoch is not None and epoch != head.epoch:
        raise _changed(epoch, head.epoch)
    if not yes:
        text = (_WHAT_IT_KEEPS if nothing_lost else _WHAT_IT_ENDS).format(
            database=settings.database_url, epoch=head.epoch, sequence=head.sequence
        )
        click.echo(text)
        click.confirm("Renew the log?", abort=True)

    async def change(log: RevocationLog) -> Renewal:
        return await renew_log(
            log,
            head,
            time.time(),
            secrets.token_bytes,
            Audit(),
            operator().actor(),
            nothing_lost=nothing_lost,
        )

    try:
        renewal = _on_log(settings, change, changes=True)
    except LogChangedError:
        raise _changed(head.epoch, "another one") from None
    text = _KEPT if nothing_lost else _NEXT
    click.echo(text.format(before=renewal.before, after=renewal.after), nl=False)


def _changed(expected: str, found: str) -> click.ClickException:
    return click.ClickException(
        f"the log is {found}, not {expected}; nothing was changed. The log may already be renewed: see `token-service log show`"
    )


def _head(settings: Settings) -> LogHead:
    from token_service.core.revocation.log import LogMovedError

    async def look(log: RevocationLog) -> LogHead:
        try:
            return await log.head()
        except LogMovedError as moved:
            click.echo(f"Warning: {moved.message}", err=True)
            return moved.head

    return _on_log(settings, look)


def _on_log(settings: Settings, work: Callable[[RevocationLog], Awaitable[T]], *, changes: bool = False) -> T:
    from token_service.app.adapters import audit_keys_of, open_stores

    async def run() -> T:
        keys = await audit_keys_of(settings) if changes else None
        async with open_stores(settings, keys) as stores:
            await stores.require_current()
            return await work(stores.log)

    return asyncio.run(run())

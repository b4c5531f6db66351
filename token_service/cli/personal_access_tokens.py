"""`token-service personal-access-tokens`: administration of personal access tokens, directly in the database."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, show_table, time_text
from token_service.cli.settings_options import settings_options
from token_service.cli.values import seconds
from token_service.config import Settings
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.personal_tokens import last_use
from token_service.errors import SessionNotFoundError

if TYPE_CHECKING:
    from token_service.app.administration import PersonalTokens

T = TypeVar("T")


@click.group("personal-access-tokens")
def command() -> None:
    """Administer personal access tokens.

    These commands work directly on the database, even while no node runs. They need the settings of the service: the
    database, the key-encryption key and, if used, the policy file. docs/personal-access-tokens.md describes the tokens.

    \b
    Examples:
      token-service personal-access-tokens create --subject alice --client-id ci --name "nightly backup" \\
          --audience https://orders.example --scope orders:read --ttl 30d
      token-service personal-access-tokens list --subject alice
      token-service personal-access-tokens revoke 0198c2f4-5a7b-4c1e-9d3f-2b6a8e4c7d10
    """


@command.command("create", cls=SettingsCommand, short_help="Create a token.")
@settings_options
@output_option
@click.option("--subject", required=True, help="The subject that the token acts for.")
@click.option("--client-id", required=True, help="The client that may exchange the token.")
@click.option("--name", required=True, help="A name for people.")
@click.option("--audience", "audience", multiple=True, required=True, help="An audience; may be repeated.")
@click.option("--scope", "scopes", multiple=True, required=True, help="A scope; may be repeated.")
@click.option(
    "--ttl", callback=seconds, required=True, metavar="TIME", help="Lifetime of the token, e.g. 30d."
)
def create(settings: Settings, output: str, **request: Any) -> None:
    """Create a personal access token, which is shown this once.

    \b
    Example:
      token-service personal-access-tokens create --subject alice --client-id ci --name "nightly backup" \\
          --audience https://orders.example --scope orders:read --ttl 30d
    """
    from token_service.core.issuing.personal_access_tokens import CreateCommand

    now = time.time()
    created = _administer(
        settings,
        lambda personal: personal.tokens.create(personal.keys.operator, CreateCommand(**request), now),
    )
    details = SessionDetails(created.session)
    if output == "json":
        show_json({**_members(details, now), "token": created.token})
        return
    _show([details], now)
    click.echo(f"token: {created.token}")
    click.echo("The token can't be shown again.", err=True)


@command.command("list", cls=SettingsCommand, short_help="Show the tokens of a subject.")
@settings_options
@output_option
@click.option("--subject", required=True, help="The subject of the tokens.")
@click.option("--client-id", default="", help="Only tokens of this client.")
@click.option("--active", is_flag=True, help="Leave out tokens that are expired or revoked.")
def list_(settings: Settings, output: str, subject: str, client_id: str, *, active: bool) -> None:
    """Show the personal access tokens of a subject, newest first. The tokens themselves are never shown.

    \b
    Examples:
      token-service personal-access-tokens list --subject alice
      token-service personal-access-tokens list --subject alice --active -o json
    """
    now = time.time()

    async def load(personal: PersonalTokens) -> Sequence[SessionDetails]:
        found: list[SessionDetails] = []
        place = ""
        while True:
            page = await personal.tokens.list(
                personal.keys.operator,
                subject,
                client_id=client_id,
                live_at=now if active else None,
                page_size=200,
                page_token=place,
            )
            found += page.sessions
            place = page.next_page_token
            if not place:
                return found

    found = _administer(settings, load)
    if output == "json":
        show_json([_members(details, now) for details in found])
    elif found:
        _show(found, now)


@command.command("revoke", cls=SettingsCommand, short_help="Revoke a token.")
@settings_options
@click.argument("token_id")
@click.option("--comment", default="", help="A remark for the audit trail.")
def revoke(settings: Settings, token_id: str, comment: str) -> None:
    """Revoke a personal access token by its id, and every access token made from it.

    Succeeds if the token is revoked or expired already. Running nodes see the revocation at once.

    \b
    Example:
      token-service personal-access-tokens revoke 0198c2f4-5a7b-4c1e-9d3f-2b6a8e4c7d10 --comment "laptop lost"
    """
    try:
        _administer(settings, lambda personal: personal.revoke(token_id, time.time(), comment))
    except SessionNotFoundError as error:
        raise CommandFailedError(
            f"{error.message}; `token-service personal-access-tokens list` shows those of a subject",
            ExitCode.NOT_FOUND,
        ) from None


def _administer(settings: Settings, work: Callable[[PersonalTokens], Awaitable[T]]) -> T:
    """Do `work` on the personal access tokens of the database."""
    from token_service.app.administration import administer_personal_tokens

    async def run() -> T:
        async with administer_personal_tokens(settings, os.environ) as personal:
            return await work(personal)

    return asyncio.run(run())


def _show(found: Sequence[SessionDetails], now: float) -> None:
    show_table(
        ("ID", "CLIENT ID", "STATE", "EXPIRES", "LAST USED", "SCOPES", "NAME"),
        [
            (
                str(session.id),
                session.client_id,
                session.state(now).value,
                _time(session.absolute_expire_time) or "",
                _time(last_use(session)) or "never",
                " ".join(session.scopes),
                session.name,
            )
            for session in (details.session for details in found)
        ],
    )


def _members(details: SessionDetails, now: float) -> dict[str, Any]:
    session, end = details.session, details.end()
    return {
        "personal_access_token_id": str(session.id),
        "name": session.name,
        "subject": session.subject,
        "client_id": session.client_id,
        "audience": session.audience,
        "scopes": session.scopes,
        "state": session.state(now).value,
        "create_time": _time(session.create_time),
        "expire_time": _time(session.absolute_expire_time),
        "last_use_time": _time(last_use(session)),
        "revoke_time": None if end is None else _time(end.time),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)

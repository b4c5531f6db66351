"""`token-service explain-revocation`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from token_service.cli.audit.commands import show_rows
from token_service.cli.audit.trail import trail_of
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, time_text, visible
from token_service.cli.remote.place import place_options
from token_service.config import Settings
from token_service.tokens.revocation import RevocationTarget

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command("explain-revocation", cls=SettingsCommand)
@place_options
@output_option
@click.option("--session", help="The id of a session. Includes the revocations of its subject and client.")
@click.option("--subject", help="A subject.")
@click.option("--client", help="A client.")
@click.option("--token-id", help="The `jti` of a token.")
@click.option("--key", help="The id of a signing key.")
@click.option("--everything", is_flag=True, help="The revocations of everything.")
def command(
    place: Settings | Service,
    output: str,
    *,
    session: str | None,
    subject: str | None,
    client: str | None,
    token_id: str | None,
    key: str | None,
    everything: bool,
) -> None:
    """Show who revoked a target, when, why and from where, newest first, and by when each subscriber had it. Exit code 1 if no event is stored.

    \b
    Examples:
      token-service explain-revocation --session 1b4e28ba-2fa1-41d2-883f-0016d3cca427
      token-service explain-revocation --connection production --subject alice -o json
    """
    given = [
        (target, value)
        for target, value in (
            (RevocationTarget.SESSION, session),
            (RevocationTarget.SUBJECT, subject),
            (RevocationTarget.CLIENT, client),
            (RevocationTarget.TOKEN_ID, token_id),
            (RevocationTarget.KEY, key),
            (RevocationTarget.EVERYTHING, "" if everything else None),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise click.UsageError(
            "give one of --session, --subject, --client, --token-id, --key and --everything"
        )
    ((target, value),) = given

    trail = trail_of(place)
    found = trail.explain(target, value)
    if not found:
        raise click.ClickException("the audit trail has no event that revoked this")
    if output == "json":
        events = [
            {
                **trail.members_of(each.row),
                "arrivals": {arrival.subscriber: arrival.time for arrival in each.arrivals},
            }
            for each in found
        ]
        show_json(events)
        return
    show_rows(trail, [each.row for each in found], output)
    for each in found:
        for arrival in each.arrivals:
            click.echo(
                f"the event of {time_text(each.row.time / 1_000_000)} had reached {visible(arrival.subscriber)} "
                f"by {time_text(arrival.time)}"
            )

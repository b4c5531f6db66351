"""`token-service webhooks test`, `dead-letters`, `redeliver` and `replay`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_line, show_messages, timestamp_text
from token_service.cli.pages import first_of
from token_service.cli.remote.options import answer_no, service_options
from token_service.cli.values import moment
from token_service.cli.webhooks.shown import type_text, webhook_argument

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_HEADER: Final = ("EVENT", "TYPE", "SINCE", "ATTEMPTS", "REQUESTED", "LAST ERROR")


@click.command("test", cls=SettingsCommand, short_help="Send a test now.")
@service_options
@webhook_argument
def test(service: Service, webhook_id: str) -> None:
    """Send a request of the type webhook.test now, and show the outcome. The exit code is 6 if the receiver did not take it.
    The caller needs `admin.write`.

    \b
    Example:
      token-service webhooks test wh_8d0f2b6c4e1a7395
    """
    from token_service.v1.event_service_pb2 import TestWebhookRequest

    outcome = service.call(service.events.TestWebhook, TestWebhookRequest(webhook_id=webhook_id), timeout=30)
    if outcome.delivered:
        show_line(f"the receiver took it with status {outcome.status}")
        return
    show_line(f"the receiver did not take it: {outcome.error}")
    answer_no()


@click.command("dead-letters", cls=SettingsCommand, short_help="Show events that a webhook did not take.")
@service_options
@output_option
@webhook_argument
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="The largest number of dead letters.",
)
def dead_letters(service: Service, output: str, webhook_id: str, limit: int) -> None:
    """Show the events that a webhook did not take, oldest first. The caller needs `admin.read`.

    \b
    Example:
      token-service webhooks dead-letters wh_8d0f2b6c4e1a7395
    """
    from token_service.v1.event_service_pb2 import ListDeadLettersRequest

    def fetch(size: int, token: str) -> tuple[Sequence[Any], str]:
        request = ListDeadLettersRequest(webhook_id=webhook_id, page_size=size, page_token=token)
        page = service.call(service.events.ListDeadLetters, request)
        return page.dead_letters, page.next_page_token

    show_messages(first_of(fetch, limit), output, _HEADER, _row)


@click.command("redeliver", cls=SettingsCommand, short_help="Send dead letters once more.")
@service_options
@webhook_argument
@click.argument("event_ids", nargs=-1)
def redeliver(service: Service, webhook_id: str, event_ids: tuple[str, ...]) -> None:
    """Ask for one more attempt for dead letters: for those with these ids, or for all. The caller needs `admin.write`.

    \b
    Examples:
      token-service webhooks redeliver wh_8d0f2b6c4e1a7395
      token-service webhooks redeliver wh_8d0f2b6c4e1a7395 node-1:17:5f0c9a2e:42
    """
    from token_service.v1.event_service_pb2 import RedeliverDeadLettersRequest

    request = RedeliverDeadLettersRequest(webhook_id=webhook_id, event_ids=event_ids)
    response = service.call(service.events.RedeliverDeadLetters, request)
    show_line(f"{response.requested} dead letters are sent once more")


@click.command("replay", cls=SettingsCommand, short_help="Send events again from a place on.")
@service_options
@webhook_argument
@click.option("--cursor", default="", help="Events after this cursor.")
@click.option(
    "--since",
    callback=moment,
    default=None,
    metavar="TIME",
    help="Events from this time on, e.g. 2026-11-30T08:00:00Z or 24h.",
)
def replay(service: Service, webhook_id: str, cursor: str, since: float | None) -> None:
    """Move a webhook to another place in the event log. Events after it are sent, again if they were before. The caller needs
    `admin.write`.

    \b
    Examples:
      token-service webhooks replay wh_8d0f2b6c4e1a7395 --since 24h
      token-service webhooks replay wh_8d0f2b6c4e1a7395 --cursor mtQ1c2ZPSk0x:1042
    """
    from google.protobuf.timestamp_pb2 import Timestamp

    from token_service.v1.event_service_pb2 import ReplayWebhookRequest

    if bool(cursor) == (since is not None):
        raise click.UsageError("give either --cursor or --since")
    request = ReplayWebhookRequest(webhook_id=webhook_id)
    if since is None:
        request.cursor = cursor
    else:
        time = Timestamp()
        time.FromMicroseconds(round(since * 1_000_000))
        request.time.CopyFrom(time)
    response = service.call(service.events.ReplayWebhook, request)
    show_line(f"the events after {response.cursor} are sent")


def _row(letter: Any) -> Sequence[str]:
    return (
        letter.event_id,
        type_text(letter.type),
        timestamp_text(letter, "create_time"),
        str(letter.attempts),
        "yes" if letter.redelivery_requested else "no",
        letter.last_error,
    )

"""`token-service subscribers`: list the connected validators, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_line, show_messages, span_text
from token_service.cli.pages import first_of
from token_service.cli.remote.options import service_options

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_HEADER: Final = (
    "SUBSCRIBER",
    "CALLER",
    "NODE",
    "CLIENT",
    "BEHIND",
    "CONFIRMED",
    "CONNECTED",
    "KEYS",
    "VALIDATED",
    "REFUSED",
)
_PAGE: Final = 1000


@click.command("subscribers", cls=SettingsCommand)
@service_options
@output_option
@click.option("--caller", default="", help="Only validators of this caller.")
@click.option("--node", default="", metavar="NODE", help="Only validators that are connected to this node.")
@click.option("--behind", is_flag=True, help="Only validators that have not confirmed the last revocation.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="The largest number of validators.",
)
def command(service: Service, output: str, caller: str, node: str, *, behind: bool, limit: int) -> None:
    """Show the connected validators of all nodes, the ones furthest behind first. Takes up to 5 s. The caller needs
    `admin.read`.

    \b
    Examples:
      token-service subscribers --connection production --behind
      token-service subscribers --connection production --caller spiffe://example.org/web -o json
    """
    from token_service.v1.admin_service_pb2 import ListSubscribersRequest, Subscriber

    missing: set[str] = set()

    def fetch(size: int, token: str) -> tuple[Sequence[Subscriber], str]:
        page = service.call(
            service.admin.ListSubscribers,
            ListSubscribersRequest(
                caller=caller, node_id=node, behind_only=behind, page_size=size, page_token=token
            ),
        )
        missing.update(page.missing_nodes)
        return page.subscribers, page.next_page_token

    show_messages(first_of(fetch, limit, _PAGE), output, _HEADER, _row)
    for each in sorted(missing):
        show_line(
            f"Node {each} did not answer in time: its validators are missing. See `token-service nodes`.",
            err=True,
        )


def _row(subscriber: Any) -> Sequence[str]:
    behind = str(subscriber.entries_behind)
    return (
        subscriber.subscriber_id,
        subscriber.caller,
        subscriber.node_id,
        subscriber.client_version or "-",
        f"{behind} (silent)" if subscriber.silent else behind,
        span_text(subscriber, "confirmation_age"),
        span_text(subscriber, "connected_for"),
        str(subscriber.key_set_revision or "-"),
        str(subscriber.validated),
        " ".join(f"{reason}:{count}" for reason, count in sorted(subscriber.refusals.items())) or "-",
    )

"""Webhooks as the commands show them, and the options that choose events."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from token_service.cli.output import members, show_message, timestamp_text

if TYPE_CHECKING:
    from token_service.v1.event_service_pb2 import Webhook

F = TypeVar("F", bound=Callable[..., Any])

HEADER: Final = ("ID", "STATE", "URL", "BEHIND", "DEAD LETTERS", "LAST SUCCESS", "DESCRIPTION")
_PREFIX: Final = "EVENT_TYPE_"
webhook_argument = click.argument("webhook_id")
etag_option = click.option("--etag", default="", help="Refuse the change if the webhook has another etag.")
_CHOICE: Final = (
    click.option(
        "--type",
        "types",
        multiple=True,
        help="Only events of this type, such as revoked or client.created; may be repeated.",
    ),
    click.option(
        "--category",
        "categories",
        multiple=True,
        type=click.Choice(["administrative", "security", "routine"]),
        help="Only events of this category; may be repeated.",
    ),
    click.option("--client-id", default=None, help="Only events about this client."),
    click.option("--description", default=None, help="A text for people."),
)


def event_choice(function: F) -> F:
    """Add the options that choose events."""
    for option in reversed(_CHOICE):
        function = option(function)
    return function


def type_names(types: Sequence[str]) -> list[str]:
    """Return the names of types in the contract. Raises `click.BadParameter`."""
    from token_service.suggestions import did_you_mean
    from token_service.v1.event_service_pb2 import EventType

    names = {_shown_type(name): name for name in EventType.keys() if not name.endswith("_UNSPECIFIED")}  # noqa: SIM118
    for each in types:
        if each not in names:
            raise click.BadParameter(f"{each}: no such type{did_you_mean(each, names)}", param_hint="--type")
    return [names[each] for each in types]


def type_text(number: Any) -> str:
    """Return the action of a type."""
    from token_service.v1.event_service_pb2 import EventType

    known = number in EventType.values()
    return _shown_type(EventType.Name(number)) if known else str(number)


def state(webhook: Any) -> str:
    """Return the state in a word."""
    if webhook.disabled:
        return "disabled"
    return "failing" if webhook.delivery.HasField("failing_since") else "active"


def row(webhook: Any) -> Sequence[str]:
    """Return the cells of a webhook."""
    return (
        webhook.webhook_id,
        state(webhook),
        webhook.url,
        str(webhook.delivery.events_behind),
        str(webhook.delivery.dead_letters),
        timestamp_text(webhook.delivery, "last_success_time"),
        webhook.description,
    )


def show(webhook: Webhook, output: str, secret: str = "") -> None:
    """Print a webhook, with the secret that was just made for it."""
    if output == "json" and secret:
        click.echo(json.dumps({**members(webhook), "secret": secret}, indent=2))
        return
    show_message(webhook, output, _fields)
    if secret:
        click.echo(f"secret: {secret}")
        click.echo("The secret can't be shown again.", err=True)


def _fields(webhook: Any) -> Sequence[tuple[str, str]]:
    delivery = webhook.delivery
    return (
        ("id", webhook.webhook_id),
        ("url", webhook.url),
        ("description", webhook.description),
        ("state", state(webhook)),
        ("disabled because", webhook.disable_reason),
        ("types", " ".join(map(type_text, webhook.types))),
        ("categories", " ".join(webhook.categories)),
        ("client", webhook.client_id),
        ("cursor", delivery.cursor),
        ("events behind", str(delivery.events_behind)),
        ("dead letters", str(delivery.dead_letters)),
        ("last success", timestamp_text(delivery, "last_success_time")),
        ("failing since", _if_set(delivery, "failing_since")),
        ("last error", delivery.last_error),
        ("attempts", str(delivery.attempts or "")),
        ("next attempt", _if_set(delivery, "next_attempt_time")),
        ("previous secret until", _if_set(webhook, "previous_secret_expire_time")),
        ("etag", webhook.etag),
    )


def _if_set(message: Any, field: str) -> str:
    return timestamp_text(message, field) if message.HasField(field) else ""


def _shown_type(name: str) -> str:
    """Return the action of a type: `client.created` for EVENT_TYPE_CLIENT_CREATED."""
    from token_service.core.events.event import Action

    known = name.removeprefix(_PREFIX)
    return Action[known].value if known in Action.__members__ else known.lower()

"""`token-service webhooks create`, `get`, `list`, `update`, `rotate-secret` and `delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_messages
from token_service.cli.remote.options import service_options
from token_service.cli.values import seconds
from token_service.cli.webhooks.shown import (
    HEADER,
    etag_option,
    event_choice,
    row,
    show,
    type_names,
    webhook_argument,
)

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.event_service_pb2 import Webhook


@click.command("create", cls=SettingsCommand, short_help="Create a webhook.")
@service_options
@output_option
@click.argument("url")
@event_choice
def create(service: Service, output: str, url: str, **settings: Any) -> None:
    """Create a webhook. Events from now on are posted to its URL. Its secret is shown this once. The caller needs
    `admin.write`.

    \b
    Examples:
      token-service webhooks create https://hooks.example.org/tokens --category security
      token-service webhooks create https://hooks.example.org/tokens --type revoked --client-id web -o json
    """
    from token_service.v1.event_service_pb2 import CreateWebhookRequest

    request = CreateWebhookRequest(webhook=_message(url=url, **settings))
    response = service.call(service.events.CreateWebhook, request)
    show(response.webhook, output, response.secret)


@click.command("get", cls=SettingsCommand, short_help="Show a webhook.")
@service_options
@output_option
@webhook_argument
def get(service: Service, output: str, webhook_id: str) -> None:
    """Show a webhook and the state of its deliveries. Secrets are never shown. The caller needs `admin.read`.

    \b
    Example:
      token-service webhooks get wh_8d0f2b6c4e1a7395
    """
    from token_service.v1.event_service_pb2 import GetWebhookRequest

    response = service.call(service.events.GetWebhook, GetWebhookRequest(webhook_id=webhook_id))
    show(response.webhook, output)


@click.command("list", cls=SettingsCommand, short_help="Show all webhooks.")
@service_options
@output_option
def list_(service: Service, output: str) -> None:
    """Show all webhooks, oldest first. The caller needs `admin.read`.

    \b
    Example:
      token-service webhooks list --connection production
    """
    from token_service.v1.event_service_pb2 import ListWebhooksRequest

    response = service.call(service.events.ListWebhooks, ListWebhooksRequest())
    show_messages(response.webhooks, output, HEADER, row)


@click.command("update", cls=SettingsCommand, short_help="Change settings of a webhook.")
@service_options
@output_option
@webhook_argument
@click.option("--url", default=None, help="The URL that events are posted to.")
@event_choice
@click.option("--all-types", is_flag=True, help="Events of every type.")
@click.option("--all-categories", is_flag=True, help="Events of every category.")
@click.option("--disable/--enable", "disabled", default=None, help="Stop, or go on where it stopped.")
@etag_option
def update(
    service: Service,
    output: str,
    webhook_id: str,
    etag: str,
    *,
    all_types: bool,
    all_categories: bool,
    **settings: Any,
) -> None:
    """Change the named settings of a webhook. The caller needs `admin.write`.

    \b
    Examples:
      token-service webhooks update wh_8d0f2b6c4e1a7395 --url https://hooks.example.org/v2
      token-service webhooks update wh_8d0f2b6c4e1a7395 --enable
    """
    from google.protobuf.field_mask_pb2 import FieldMask

    from token_service.v1.event_service_pb2 import UpdateWebhookRequest

    changes = {name: value for name, value in settings.items() if value not in (None, ())}
    for name, is_any in (("types", all_types), ("categories", all_categories)):
        if is_any:
            if name in changes:
                raise click.UsageError(f"--all-{name} allows every one, so it can't be combined with others")
            changes[name] = ()
    if not changes:
        raise click.UsageError("name a setting to change")
    webhook = _message(**changes)
    webhook.webhook_id, webhook.etag = webhook_id, etag
    request = UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=list(changes)))
    show(service.call(service.events.UpdateWebhook, request).webhook, output)


@click.command("rotate-secret", cls=SettingsCommand, short_help="Make another secret.")
@service_options
@output_option
@webhook_argument
@click.option(
    "--overlap",
    callback=seconds,
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the current secret signs, too; 0s: it ends at once.",
)
@etag_option
def rotate_secret(service: Service, output: str, webhook_id: str, overlap: float, etag: str) -> None:
    """Make another secret, which is shown this once. Until the overlap ends, requests have the signatures of both. The
    caller needs `admin.write`.

    \b
    Example:
      token-service webhooks rotate-secret wh_8d0f2b6c4e1a7395 --overlap 1h
    """
    from google.protobuf.duration_pb2 import Duration

    from token_service.v1.event_service_pb2 import RotateWebhookSecretRequest

    span = Duration()
    span.FromMilliseconds(round(overlap * 1000))
    request = RotateWebhookSecretRequest(webhook_id=webhook_id, overlap=span, etag=etag)
    response = service.call(service.events.RotateWebhookSecret, request)
    show(response.webhook, output, response.secret)


@click.command("delete", cls=SettingsCommand, short_help="Delete a webhook.")
@service_options
@webhook_argument
@etag_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(service: Service, webhook_id: str, etag: str, *, yes: bool) -> None:
    """Delete a webhook with its dead letters. The caller needs `admin.write`.

    \b
    Example:
      token-service webhooks delete wh_8d0f2b6c4e1a7395 --yes
    """
    from token_service.v1.event_service_pb2 import DeleteWebhookRequest

    if not yes:
        click.confirm(f"Delete the webhook {webhook_id} and its dead letters?", abort=True)
    service.call(service.events.DeleteWebhook, DeleteWebhookRequest(webhook_id=webhook_id, etag=etag))


def _message(*, types: tuple[str, ...] = (), **settings: Any) -> Webhook:
    from token_service.v1.event_service_pb2 import Webhook

    given = {name: value for name, value in settings.items() if value is not None}
    return Webhook(types=type_names(types), **given)

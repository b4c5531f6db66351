"""Conversion of webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from token_service.core.administration.webhooks import SETTINGS
from token_service.core.events.webhooks.webhook import DeadLetter, WebhookEntry
from token_service.core.limits import MAX_UPDATE_PATHS, Checks
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.events import actions_of, event_type
from token_service.rpc.convert.values import seconds_of_timestamp, set_timestamp
from token_service.tokens.revocation import Cursor
from token_service.v1 import event_service_pb2 as pb


def webhook_settings(request: pb.CreateWebhookRequest) -> dict[str, Any]:
    """Return the settings in a request. Raises `InvalidRequestError`."""
    if not request.HasField("webhook"):
        raise InvalidRequestError.of("webhook", "is required")
    return {name: _value(request.webhook, name) for name in SETTINGS}


def webhook_changes(request: pb.UpdateWebhookRequest) -> dict[str, Any]:
    """Return the new values of the settings in the mask; None for a name that is no setting.

    Raises `InvalidRequestError`.
    """
    if not request.HasField("webhook"):
        raise InvalidRequestError.of("webhook", "is required")
    paths = request.update_mask.paths
    if len(paths) > MAX_UPDATE_PATHS:
        raise InvalidRequestError.of("update_mask", f"has more than {MAX_UPDATE_PATHS} paths")
    return {name: _value(request.webhook, name) if name in SETTINGS else None for name in paths}


def replay_time(request: pb.ReplayWebhookRequest) -> float | None:
    """Return the time in a request; None: it has a cursor. Raises `InvalidRequestError`."""
    chosen = request.WhichOneof("from")
    if chosen is None:
        raise InvalidRequestError.of("from", "is required: one of cursor, time")
    if chosen == "cursor":
        return None
    checks = Checks()
    seconds = seconds_of_timestamp(request.time, "time", checks)
    checks.done()
    return seconds


def webhook_message(entry: WebhookEntry, epoch: str, head: int) -> pb.Webhook:
    """Build the message of a webhook. `epoch` and `head` are those of the event log."""
    webhook, state = entry.webhook, entry.state
    message = pb.Webhook(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        description=webhook.description,
        types=map(event_type, webhook.types),
        categories=webhook.categories,
        client_id=webhook.client_id,
        disabled=webhook.disabled,
        disable_reason=webhook.disable_reason,
        etag=webhook.etag,
        delivery=pb.WebhookDelivery(
            cursor=str(Cursor(epoch, entry.place)),
            events_behind=max(0, head - entry.place),
            dead_letters=entry.dead_letters,
        ),
    )
    set_timestamp(message.create_time, webhook.create_time)
    set_timestamp(message.update_time, webhook.update_time)
    for secret in webhook.secrets:
        if secret.expire_time is not None:
            set_timestamp(message.previous_secret_expire_time, secret.expire_time)
    delivery = message.delivery
    if state.failing_since is not None:
        delivery.last_error = state.last_error
        set_timestamp(delivery.failing_since, state.failing_since)
        if state.sequence > entry.place:
            delivery.attempts = state.attempts
            set_timestamp(delivery.next_attempt_time, state.due_time)
    if state.last_success_time is not None:
        set_timestamp(delivery.last_success_time, state.last_success_time)
    return message


def dead_letter_message(letter: DeadLetter) -> pb.DeadLetter:
    """Build the message of a dead letter."""
    message = pb.DeadLetter(
        event_id=letter.event_id,
        type=event_type(letter.type),
        attempts=letter.attempts,
        last_error=letter.last_error,
        redelivery_requested=letter.requested,
    )
    set_timestamp(message.create_time, letter.create_time)
    return message


_CONVERTED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "types": lambda numbers: tuple(actions_of(numbers)),
    "categories": tuple,
}


def _value(message: pb.Webhook, name: str) -> Any:
    value = getattr(message, name)
    return _CONVERTED[name](value) if name in _CONVERTED else value

"""Composition of the use cases of webhooks."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.app.ports import CoreOptions, Ports
from token_service.core.administration.webhook_events import WebhookEvents
from token_service.core.administration.webhook_secrets import WebhookSecrets
from token_service.core.administration.webhooks import WebhookAdministration
from token_service.core.events.feed import EventFeed
from token_service.core.events.webhooks.delivering import PipelineParts
from token_service.core.events.webhooks.fleet import WebhookDelivery
from token_service.core.events.webhooks.sending import WebhookSender


@dataclass(frozen=True, slots=True)
class WebhookUseCases:
    """The use cases, and the deliveries of this node."""

    administration: WebhookAdministration
    events: WebhookEvents
    secrets: WebhookSecrets
    delivery: WebhookDelivery


def make_webhook_use_cases(ports: Ports, feed: EventFeed, options: CoreOptions) -> WebhookUseCases:
    """Compose the use cases, without I/O."""
    stores = ports.stores
    secrets = WebhookSecrets(ports.wrap, ports.entropy)
    sender = WebhookSender(ports.webhooks.send, secrets.open, ports.clock)
    delivery = WebhookDelivery(
        PipelineParts(
            store=stores.webhooks,
            log=stores.events,
            feed=feed,
            trail=stores.audit,
            sender=sender,
            clock=ports.clock,
            entropy=ports.entropy,
            rules=options.webhook_retries,
            count=ports.webhooks.counted,
        ),
        stores.leases,
        options.node_id,
    )
    return WebhookUseCases(
        WebhookAdministration(
            stores.webhooks,
            secrets,
            sender,
            ports.webhooks.problem_of_url,
            delivery.wake,
            ports.entropy,
        ),
        WebhookEvents(stores.webhooks, stores.events, delivery.wake),
        secrets,
        delivery,
    )

"""`token-service webhooks`: administration of webhooks, over gRPC."""

from __future__ import annotations

import click

from token_service.cli.webhooks import deliveries, settings


@click.group("webhooks")
def command() -> None:
    """Administer webhooks: URLs that the events of the service are posted to.

    These commands call a running service. docs/events.md describes events and how a receiver verifies a signature.

    \b
    Examples:
      token-service webhooks create https://hooks.example.org/tokens --category security
      token-service webhooks list
      token-service webhooks test wh_8d0f2b6c4e1a7395
      token-service webhooks redeliver wh_8d0f2b6c4e1a7395
    """


for each in (
    settings.create,
    settings.get,
    settings.list_,
    settings.update,
    settings.rotate_secret,
    settings.delete,
    deliveries.test,
    deliveries.dead_letters,
    deliveries.redeliver,
    deliveries.replay,
):
    command.add_command(each)

"""The port for webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from token_service.core.events.event import AuditEvent
from token_service.core.events.webhooks.webhook import DeadLetter, DeliveryState, Webhook, WebhookEntry


class WebhookStore(Protocol):
    """Webhooks, the state of their deliveries, and their dead letters. Each method raises `StoreUnavailableError`.

    The place of a webhook is the place of its consumer in the `EventLog`. It is made and deleted with the webhook.
    """

    async def create(
        self, webhook: Webhook, limit: int, events: Sequence[AuditEvent] = ()
    ) -> WebhookEntry | None:
        """Add a webhook whose place is the end of the event log, and write the audit events; return it.

        Changes nothing and returns None if there are `limit` webhooks already.
        """
        ...

    async def get(self, webhook_id: str) -> WebhookEntry | None:
        """Return a webhook."""
        ...

    async def list(self) -> Sequence[WebhookEntry]:
        """Return all webhooks, oldest first."""
        ...

    async def save(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, reset: bool = False
    ) -> WebhookEntry | None:
        """Replace a webhook whose revision is `webhook.revision`, and write the audit events; return it.

        `reset`: forget the failed attempts. Changes nothing and returns None if the webhook has another revision.
        """
        ...

    async def delete(self, webhook_id: str, revision: int, events: Sequence[AuditEvent] = ()) -> bool:
        """Delete a webhook with its place and its dead letters, and write the audit events.

        Changes nothing and returns False if the webhook has another revision.
        """
        ...

    async def move(self, webhook_id: str, sequence: int, events: Sequence[AuditEvent] = ()) -> bool:
        """Set the place of a webhook, and write the audit events. Returns False if there is no such webhook."""
        ...

    async def note(self, webhook_id: str, state: DeliveryState) -> None:
        """Replace the state of the deliveries. Changes nothing if there is no such webhook."""
        ...

    async def bury(self, letter: DeadLetter, keep: int) -> int:
        """Add or replace a dead letter, and delete the oldest ones beyond `keep`; return how many were deleted."""
        ...

    async def letters(
        self, webhook_id: str, *, limit: int, after: int = 0, requested: bool = False
    ) -> Sequence[DeadLetter]:
        """Return dead letters whose sequence is above `after`, in order.

        `requested`: only those for which an attempt was asked.
        """
        ...

    async def request(self, webhook_id: str, places: Sequence[tuple[str, int]]) -> int:
        """Ask for one more attempt for the dead letters with these chains and positions, or for all if there are none.

        Returns the number of dead letters for which an attempt is asked now.
        """
        ...

    async def settle(self, letter: DeadLetter, error: str | None) -> None:
        """Note the attempt for a dead letter: delete it after a success, or note the error."""
        ...

    async def purge(self, before: float) -> int:
        """Delete dead letters that were made before a time; return how many."""
        ...

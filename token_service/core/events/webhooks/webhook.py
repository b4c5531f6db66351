"""A webhook, and the state of its deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from token_service.core.events.filter import EventFilter

MAX_WEBHOOKS: Final = 50
"""Webhooks of the service."""
MAX_URL: Final = 2048
MAX_DESCRIPTION: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A signing secret at rest, encrypted with a key-encryption key."""

    wrapped: bytes
    wrapping_key_id: str
    expire_time: float | None = None
    """The end of a secret that was replaced; None: it is the current one."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A receiver of events. Times are in seconds since the Unix epoch."""

    webhook_id: str
    url: str
    description: str = ""
    types: tuple[str, ...] = ()
    """Actions; empty: any."""
    categories: tuple[str, ...] = ()
    client_id: str = ""
    disabled: bool = False
    disable_reason: str = ""
    """Why the service disabled it; empty: a caller did, or it is enabled."""
    secrets: tuple[SealedSecret, ...] = ()
    """The replaced one, if it is kept, and the current one."""
    create_time: float = 0.0
    update_time: float = 0.0
    revision: int = 0

    @property
    def etag(self) -> str:
        """The version of the webhook as callers see it."""
        return str(self.revision)

    @property
    def consumer(self) -> str:
        """The name of its place in the event log, and of its lease."""
        return consumer_of(self.webhook_id)

    @cached_property
    def filter(self) -> EventFilter:
        """The conditions on its events."""
        return EventFilter(actions=self.types, categories=self.categories, client_id=self.client_id)

    def live_secrets(self, now: float) -> tuple[SealedSecret, ...]:
        """Return the secrets that sign at a time, the current one last."""
        return tuple(each for each in self.secrets if each.expire_time is None or each.expire_time > now)


def consumer_of(webhook_id: str) -> str:
    """Return the name of the place of a webhook in the event log, and of its lease."""
    return f"webhook:{webhook_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """The attempts of a webhook so far. The process with the lease of the webhook writes it."""

    sequence: int = 0
    """The event that `attempts` and `due_time` belong to; 0: none."""
    attempts: int = 0
    due_time: float = 0.0
    failing_since: float | None = None
    """The first of the attempts that have failed without a success since; None: the last attempt succeeded."""
    last_error: str = ""
    last_success_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a webhook did not take. It names the event, whose row the audit trail has."""

    webhook_id: str
    sequence: int
    chain_id: str
    position: int
    type: str
    attempts: int
    last_error: str
    create_time: float
    requested: bool = False
    """Whether one more attempt was asked for."""

    @property
    def event_id(self) -> str:
        """The id of the event."""
        return f"{self.chain_id}:{self.position}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEntry:
    """A webhook, and where its deliveries are."""

    webhook: Webhook
    state: DeliveryState
    place: int
    """The sequence up to which every event was handled."""
    dead_letters: int

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed, or the service disabled the webhook because of failures."""
        if self.webhook.disabled:
            return bool(self.webhook.disable_reason)
        return self.state.failing_since is not None

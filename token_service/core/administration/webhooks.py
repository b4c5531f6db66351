"""CreateWebhook, GetWebhook, ListWebhooks, UpdateWebhook, RotateWebhookSecret, DeleteWebhook, TestWebhook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.webhook_secrets import WebhookSecrets
from token_service.core.entropy import Entropy
from token_service.core.events.event import Action, Actor, AuditEvent, Category, Target
from token_service.core.events.filter import MAX_EVENT_CONDITIONS
from token_service.core.events.webhooks.payload import payload_of_test
from token_service.core.events.webhooks.sending import Attempt, WebhookSender
from token_service.core.events.webhooks.signing import secret_text
from token_service.core.events.webhooks.store import WebhookStore
from token_service.core.events.webhooks.webhook import (
    MAX_DESCRIPTION,
    MAX_URL,
    MAX_WEBHOOKS,
    Webhook,
    WebhookEntry,
)
from token_service.core.limits import MAX_CLIENT_ID, Checks
from token_service.core.policies.policy import DAY
from token_service.errors import OverloadedError, WebhookChangedError, WebhookNotFoundError

DEFAULT_OVERLAP: Final = 1.0 * DAY
"""Seconds for which a replaced secret signs if the request names no time."""
MAX_OVERLAP: Final = 30.0 * DAY
SETTINGS: Final = ("url", "description", "types", "categories", "client_id", "disabled")
"""The settings of a webhook that callers change."""
_MAX_ID: Final = 64
_MAX_ATTEMPTS: Final = 10
"""Attempts of a change without an etag while others change the webhook."""


@dataclass(frozen=True, slots=True)
class WebhookWithSecret:
    """A webhook, and the text of the secret that was made for it. The secret can't be read again."""

    entry: WebhookEntry
    secret: str

    def __repr__(self) -> str:
        return f"<WebhookWithSecret {self.entry.webhook.webhook_id}>"


class WebhookAdministration:
    """Creates webhooks and changes them. Each method raises `PermissionDeniedError` and `StoreUnavailableError`.

    `etag` is the etag of the webhook that the caller has read; empty: any.
    """

    def __init__(
        self,
        store: WebhookStore,
        secrets: WebhookSecrets,
        sender: WebhookSender,
        problem_of_url: Callable[[str], str | None],
        changed: Callable[[], None],
        entropy: Entropy,
    ) -> None:
        """`problem_of_url` tells why a URL can't be used; `changed` is called after each change."""
        self._store = store
        self._secrets = secrets
        self._sender = sender
        self._problem_of_url = problem_of_url
        self._changed = changed
        self._entropy = entropy

    async def create(self, caller: Caller, settings: Mapping[str, Any], now: float) -> WebhookWithSecret:
        """Create a webhook with a secret. Raises `InvalidRequestError` and `OverloadedError`."""
        admit(caller, UseCase.CREATE_WEBHOOK)
        webhook_id = f"wh_{self._entropy(8).hex()}"
        secret, sealed = self._secrets.new(webhook_id)
        webhook = Webhook(
            webhook_id=webhook_id,
            secrets=(sealed,),
            create_time=now,
            update_time=now,
            revision=1,
            **{name: settings[name] for name in SETTINGS if name in settings},
        )
        self._check(webhook)
        entry = await self._store.create(
            webhook, MAX_WEBHOOKS, [event_of(caller.actor(), Action.WEBHOOK_CREATED, webhook_id)]
        )
        if entry is None:
            raise OverloadedError(
                f"the service has {MAX_WEBHOOKS} webhooks, which is the limit; delete one first"
            )
        self._changed()
        return WebhookWithSecret(entry, secret_text(secret))

    async def get(self, caller: Caller, webhook_id: str) -> WebhookEntry:
        """Return a webhook. Raises `InvalidRequestError` and `WebhookNotFoundError`."""
        admit(caller, UseCase.GET_WEBHOOK)
        return await existing(self._store, webhook_id)

    async def list(self, caller: Caller) -> Sequence[WebhookEntry]:
        """Return all webhooks, oldest first."""
        admit(caller, UseCase.LIST_WEBHOOKS)
        return await self._store.list()

    async def update(
        self, caller: Caller, webhook_id: str, changes: Mapping[str, Any], now: float, *, etag: str = ""
    ) -> WebhookEntry:
        """Change the settings that `changes` names.

        A webhook that is enabled goes on where it stopped. Raises `InvalidRequestError`, `WebhookNotFoundError` and
        `WebhookChangedError`.
        """
        admit(caller, UseCase.UPDATE_WEBHOOK)
        checks = Checks()
        if not changes:
            checks.add("update_mask", "is required: name the fields to change")
        for name in changes:
            if name not in SETTINGS:
                checks.add("update_mask", f"has {name[:64]}; allowed: {', '.join(SETTINGS)}")
        checks.done()

        def change(webhook: Webhook) -> Webhook:
            changed = replace(webhook, **changes, update_time=now)
            self._check(changed)
            return replace(changed, disable_reason="") if "disabled" in changes else changed

        fields = {"fields": ",".join(changes)}
        if "disabled" in changes:
            fields["disabled"] = changes["disabled"]
        event = event_of(caller.actor(), Action.WEBHOOK_UPDATED, webhook_id, fields)
        return await self._save(webhook_id, etag, change, event)

    async def rotate_secret(
        self, caller: Caller, webhook_id: str, now: float, *, etag: str = "", overlap: float = DEFAULT_OVERLAP
    ) -> WebhookWithSecret:
        """Make another secret. Until the overlap ends, requests have the signatures of both.

        Raises `InvalidRequestError`, `WebhookNotFoundError` and `WebhookChangedError`.
        """
        admit(caller, UseCase.ROTATE_WEBHOOK_SECRET)
        checks = Checks()
        if not 0 <= overlap <= MAX_OVERLAP:
            checks.add("overlap", f"is not from 0 to {MAX_OVERLAP:.0f} seconds")
        checks.done()
        secret, sealed = self._secrets.new(webhook_id)

        def change(webhook: Webhook) -> Webhook:
            current = webhook.secrets[-1]
            kept = (replace(current, expire_time=now + overlap),) if overlap else ()
            return replace(webhook, secrets=(*kept, sealed), update_time=now)

        event = event_of(caller.actor(), Action.WEBHOOK_SECRET_ROTATED, webhook_id)
        saved = await self._save(webhook_id, etag, change, event)
        return WebhookWithSecret(saved, secret_text(secret))

    async def delete(self, caller: Caller, webhook_id: str, *, etag: str = "") -> None:
        """Delete a webhook with its dead letters.

        Raises `InvalidRequestError`, `WebhookNotFoundError` and `WebhookChangedError`.
        """
        admit(caller, UseCase.DELETE_WEBHOOK)
        event = event_of(caller.actor(), Action.WEBHOOK_DELETED, webhook_id)
        for _ in range(_MAX_ATTEMPTS):
            webhook = (await existing(self._store, webhook_id)).webhook
            _require_etag(webhook, etag)
            if await self._store.delete(webhook_id, webhook.revision, [event]):
                self._changed()
                return
        raise _too_many_changes()

    async def test(self, caller: Caller, webhook_id: str, now: float) -> Attempt:
        """Send a request of the type `webhook.test` now, and return the outcome.

        Raises `InvalidRequestError` and `WebhookNotFoundError`.
        """
        admit(caller, UseCase.TEST_WEBHOOK)
        webhook = (await existing(self._store, webhook_id)).webhook
        message_id = f"test:{self._entropy(8).hex()}"
        return await self._sender.attempt(webhook, message_id, payload_of_test(webhook_id, now))

    async def _save(
        self, webhook_id: str, etag: str, change: Callable[[Webhook], Webhook], event: AuditEvent
    ) -> WebhookEntry:
        """Save what `change` returns for the current webhook; again if it was changed meanwhile."""
        for _ in range(_MAX_ATTEMPTS):
            webhook = (await existing(self._store, webhook_id)).webhook
            _require_etag(webhook, etag)
            changed = change(webhook)
            is_enabled = webhook.disabled and not changed.disabled
            saved = await self._store.save(changed, [event], reset=is_enabled)
            if saved is not None:
                self._changed()
                return saved
        raise _too_many_changes()

    def _check(self, webhook: Webhook) -> None:
        """Raise `InvalidRequestError` if settings can't be used."""
        checks = Checks()
        checks.text("url", webhook.url, MAX_URL, required=True)
        if webhook.url and (problem := self._problem_of_url(webhook.url)):
            checks.add("url", problem)
        checks.text("description", webhook.description, MAX_DESCRIPTION)
        checks.text("client_id", webhook.client_id, MAX_CLIENT_ID)
        known = {"types": tuple(Action), "categories": tuple(Category)}
        for name, allowed in known.items():
            values = getattr(webhook, name)
            if len(values) > MAX_EVENT_CONDITIONS:
                checks.add(name, f"has more than {MAX_EVENT_CONDITIONS} items")
            for number, value in enumerate(values[:MAX_EVENT_CONDITIONS]):
                if value not in allowed:
                    checks.add(f"{name}[{number}]", f"is none of {', '.join(allowed)}")
        checks.done()


def event_of(
    actor: Actor, action: Action, webhook_id: str, fields: Mapping[str, Any] | None = None
) -> AuditEvent:
    """Return the event of a change of a webhook."""
    return AuditEvent(action=action, actor=actor, target=Target("webhook", webhook_id), fields=fields or {})


async def existing(store: WebhookStore, webhook_id: str) -> WebhookEntry:
    """Return a webhook. Raises `InvalidRequestError`, `WebhookNotFoundError` and `StoreUnavailableError`."""
    checks = Checks()
    checks.text("webhook_id", webhook_id, _MAX_ID, required=True)
    checks.done()
    entry = await store.get(webhook_id)
    if entry is None:
        raise WebhookNotFoundError(metadata={"webhook_id": webhook_id})
    return entry


def _require_etag(webhook: Webhook, etag: str) -> None:
    if etag and etag != webhook.etag:
        raise WebhookChangedError(metadata={"webhook_id": webhook.webhook_id})


def _too_many_changes() -> OverloadedError:
    return OverloadedError("others changed the webhook too often meanwhile; repeat the call")

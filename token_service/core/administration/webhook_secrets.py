"""The signing secrets of webhooks, encrypted with the key-encryption key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from token_service.core.entropy import Entropy
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.webhooks.signing import new_secret
from token_service.core.events.webhooks.store import WebhookStore
from token_service.core.events.webhooks.webhook import SealedSecret, Webhook, WebhookEntry
from token_service.core.keys.key_wrap import KeyWrap
from token_service.tokens.secret import Secret


class WebhookSecrets:
    """Makes, encrypts and decrypts secrets. A secret is bound to its webhook, so it can't be moved to another one."""

    def __init__(self, wrap: KeyWrap, entropy: Entropy) -> None:
        self._wrap = wrap
        self._entropy = entropy

    def new(self, webhook_id: str) -> tuple[Secret, SealedSecret]:
        """Return a new secret, and its form at rest."""
        secret = new_secret(self._entropy)
        return secret, self._sealed(secret, webhook_id)

    def open(self, webhook: Webhook, now: float) -> Sequence[Secret]:
        """Return the secrets that sign at a time, the current one first. Raises `ConfigurationError`."""
        return [self._open(each, webhook.webhook_id) for each in reversed(webhook.live_secrets(now))]

    async def rewrap(self, store: WebhookStore, actor: Actor) -> int:
        """Encrypt all secrets with the first key-encryption key; return how many were encrypted with another one.

        Raises `ConfigurationError` and `StoreUnavailableError`.
        """
        count = 0
        for entry in await store.list():
            found: WebhookEntry | None = entry
            while found is not None:
                webhook = found.webhook
                old = sum(each.wrapping_key_id != self._wrap.key_id for each in webhook.secrets)
                if not old:
                    break
                changed = replace(
                    webhook, secrets=tuple(self._rewrapped(each, webhook) for each in webhook.secrets)
                )
                event = AuditEvent(
                    action=Action.KEYS_REWRAPPED,
                    actor=actor,
                    target=Target("webhook", webhook.webhook_id),
                    fields={"wrapping_key_id": self._wrap.key_id, "count": old},
                )
                if await store.save(changed, [event]) is not None:
                    count += old
                    break
                found = await store.get(webhook.webhook_id)  # it was changed meanwhile
        return count

    def _rewrapped(self, sealed: SealedSecret, webhook: Webhook) -> SealedSecret:
        secret = self._open(sealed, webhook.webhook_id)
        return replace(self._sealed(secret, webhook.webhook_id), expire_time=sealed.expire_time)

    def _sealed(self, secret: Secret, webhook_id: str) -> SealedSecret:
        return SealedSecret(
            wrapped=self._wrap.wrap(secret, _context(webhook_id)), wrapping_key_id=self._wrap.key_id
        )

    def _open(self, sealed: SealedSecret, webhook_id: str) -> Secret:
        return self._wrap.unwrap(sealed.wrapped, _context(webhook_id), sealed.wrapping_key_id)


def _context(webhook_id: str) -> bytes:
    return f"webhook secret {webhook_id}".encode()

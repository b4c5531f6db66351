"""The signing secrets of webhooks at rest."""

from __future__ import annotations

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.virtual_time import ManualClock
from token_service.core.administration.webhook_secrets import WebhookSecrets
from token_service.core.events.event import Actor
from token_service.core.events.webhooks.webhook import SealedSecret, Webhook
from token_service.errors import ConfigurationError
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.tokens.secret import Secret

OLD_KEY, NEW_KEY = Secret(b"o" * 32), Secret(b"n" * 32)


def secrets_under(*keys: Secret) -> WebhookSecrets:
    return WebhookSecrets(AesGcmKeyWrap(keys), lambda size: b"\x07" * size)


def a_webhook(*secrets: SealedSecret, webhook_id: str = "wh_1") -> Webhook:
    return Webhook(webhook_id=webhook_id, url="https://hooks.example/", secrets=secrets, revision=1)


def test_secret_is_encrypted_and_bound_to_its_webhook() -> None:
    secrets = secrets_under(OLD_KEY)
    secret, sealed = secrets.new("wh_1")
    assert secret.reveal() == b"\x07" * 32
    assert secret.reveal() not in sealed.wrapped
    (opened,) = secrets.open(a_webhook(sealed), 0.0)
    assert opened.reveal() == secret.reveal()
    with pytest.raises(ConfigurationError):
        secrets.open(a_webhook(sealed, webhook_id="wh_2"), 0.0)


def test_replaced_secret_signs_until_its_end_after_the_current_one() -> None:
    secrets = secrets_under(OLD_KEY)
    wrap = AesGcmKeyWrap([OLD_KEY])
    sealed = [
        SealedSecret(
            wrapped=wrap.wrap(Secret(value), b"webhook secret wh_1"),
            wrapping_key_id=wrap.key_id,
            expire_time=end,
        )
        for value, end in ((b"old", 100.0), (b"new", None))
    ]
    assert [each.reveal() for each in secrets.open(a_webhook(*sealed), 99.0)] == [b"new", b"old"]
    assert [each.reveal() for each in secrets.open(a_webhook(*sealed), 100.0)] == [b"new"]


async def test_rewrap_needs_the_old_key_no_longer() -> None:
    stores = MemoryStores(ManualClock())
    _, sealed = secrets_under(OLD_KEY).new("wh_1")
    replaced = SealedSecret(wrapped=sealed.wrapped, wrapping_key_id=sealed.wrapping_key_id, expire_time=50.0)
    await stores.webhooks.create(a_webhook(replaced, sealed), 9)
    both = secrets_under(NEW_KEY, OLD_KEY)
    assert await both.rewrap(stores.webhooks, Actor.system("test")) == 2
    assert await both.rewrap(stores.webhooks, Actor.system("test")) == 0
    (entry,) = await stores.webhooks.list()
    assert [each.expire_time for each in entry.webhook.secrets] == [50.0, None]
    opened = secrets_under(NEW_KEY).open(entry.webhook, 0.0)
    assert [each.reveal() for each in opened] == [b"\x07" * 32] * 2
    (row,) = stores.audit.by_place.values()
    assert (row.action, row.target) == ("keys.rewrapped", "wh_1")

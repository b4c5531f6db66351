"""Signatures, against the vector that Standard Webhooks publishes and against its reference library."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from token_service.core.events.webhooks.signing import new_secret, secret_text, signed_headers
from token_service.tokens.secret import Secret

BODY = b'{"test": 2432232314}'


def test_signature_is_that_of_the_published_vector() -> None:
    secret = Secret(b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    assert signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_reference_library_takes_either_secret_of_a_rotation() -> None:
    old, new, other = (Secret(bytes([fill]) * 32) for fill in b"abc")
    headers = signed_headers([new, old], "node:1:2:3", int(datetime.now(UTC).timestamp()), BODY)
    for secret in (old, new):
        assert Webhook(secret_text(secret)).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(other)).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(new)).verify(BODY + b" ", headers)


def test_secret_has_32_bytes_and_its_prefix() -> None:
    text = secret_text(new_secret(lambda size: b"\xfb" * size))
    assert text.startswith("whsec_")
    assert b64decode(text.removeprefix("whsec_")) == b"\xfb" * 32

"""Signatures of webhooks (Standard Webhooks 1.0)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from typing import Final

from token_service.core.entropy import Entropy
from token_service.tokens.secret import Secret

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def new_secret(entropy: Entropy) -> Secret:
    """Return the bytes of a new secret."""
    return Secret(entropy(SECRET_BYTES))


def secret_text(secret: Secret) -> str:
    """Return a secret as its receiver gets it. It must be shown once, and never logged."""
    return PREFIX + b64encode(secret.reveal()).decode()


def signed_headers(secrets: Sequence[Secret], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a request, with a signature by each secret.

    `timestamp`: the time of the attempt in seconds since the Unix epoch. A receiver refuses old ones.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (
        "v1," + b64encode(hmac.digest(secret.reveal(), signed, hashlib.sha256)).decode() for secret in secrets
    )
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }

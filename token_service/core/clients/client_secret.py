"""Client secrets: 256 random bits in a text form that secret scanners and typing mistakes are found by.

The text is `tscs_`, 43 characters of base64url, and 6 characters of base64url with the CRC-32 of what precedes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from typing import Final

from token_service.core.clients.client import Client, ClientSecret
from token_service.core.entropy import Entropy
from token_service.tokens import base64url
from token_service.tokens.secret import Secret

PREFIX: Final = "tscs_"
SECRET_BYTES: Final = 32
_TEXT: Final = re.compile(rb"(?P<body>tscs_[A-Za-z0-9_-]{43})(?P<checksum>[A-Za-z0-9_-]{6})")


def new_secret(entropy: Entropy, now: float, expire_time: float | None = None) -> tuple[Secret, ClientSecret]:
    """Return a new secret as text, to be shown once, and its form at rest."""
    body = (PREFIX + base64url.encode(entropy(SECRET_BYTES))).encode()
    text = body + _checksum(body)
    at_rest = ClientSecret(
        secret_id=base64url.encode(entropy(9)),
        hash=hashlib.sha256(text).digest(),
        create_time=now,
        expire_time=expire_time,
    )
    return Secret(text), at_rest


def is_well_formed(presented: Secret) -> bool:
    """Tell whether a text can be a secret made by `new_secret`. A mistyped one is not."""
    match = _TEXT.fullmatch(presented.reveal())
    return match is not None and hmac.compare_digest(_checksum(match["body"]), match["checksum"])


def matching_secret(client: Client, presented: Secret, now: float) -> ClientSecret | None:
    """Return the live secret of a client that was presented; None if there is none.

    Compares with every secret in constant time.
    """
    if not is_well_formed(presented):
        return None
    digest = hashlib.sha256(presented.reveal()).digest()
    found: ClientSecret | None = None
    for secret in client.secrets:
        if hmac.compare_digest(secret.hash, digest) and secret.is_live(now):
            found = secret
    return found


def _checksum(body: bytes) -> bytes:
    return base64url.encode(zlib.crc32(body).to_bytes(4)).encode()

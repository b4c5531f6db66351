"""Nonces for DPoP proofs that need no memory (RFC 9449, sections 8 and 9)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from token_service.tokens.base64url import encode
from token_service.tokens.secret import Secret

NONCE_PERIOD: Final = 60.0
"""Seconds after which a new nonce is given out. The previous one is accepted as long again."""
_NONCE_BYTES: Final = 18
_LABEL: Final = b"token_service dpop nonce v1"


class DpopNonces:
    """Nonces: the HMAC of a bucket of time. All recipients with the same keys accept the same nonces."""

    __slots__ = ("_keys", "_period")

    def __init__(self, keys: Sequence[Secret], period: float = NONCE_PERIOD) -> None:
        """Configure the nonces.

        The first key makes nonces, and all keys accept them. A key has at least 32 bytes. `period` is in seconds.
        """
        if not keys or any(len(key.reveal()) < 32 for key in keys):
            raise ValueError("nonces need at least one key, of at least 32 bytes each")
        self._keys = tuple(keys)
        self._period = period

    def current(self, now: float) -> str:
        """Return the nonce of this time, 24 characters."""
        return self._nonce(self._keys[0], int(now // self._period))

    def accepts(self, nonce: str, now: float) -> bool:
        """Return whether a nonce is the one of this period, of the previous one, or of the next one.

        The next one may come from a recipient whose clock is ahead.
        """
        bucket = int(now // self._period)
        given = nonce.encode("utf-8", "replace")
        found = False
        for key in self._keys:
            for each in (bucket, bucket - 1, bucket + 1):
                found |= hmac.compare_digest(self._nonce(key, each).encode("ascii"), given)
        return found

    @staticmethod
    def _nonce(key: Secret, bucket: int) -> str:
        digest = hmac.digest(key.reveal(), _LABEL + bucket.to_bytes(8, "big", signed=True), hashlib.sha256)
        return encode(digest[:_NONCE_BYTES])

"""The port for keys of others: registered clients and workload issuers."""

from __future__ import annotations

from typing import Protocol

from token_service.tokens.key_set import KeySet


class KeySource(Protocol):
    """The public keys of one party."""

    async def keys(self, key_id: str | None) -> KeySet:
        """Return the current keys. If `key_id` is not among them, look once for newer keys.

        Raises `ForeignKeysUnavailableError` if no keys are known that can still be used.
        """
        ...

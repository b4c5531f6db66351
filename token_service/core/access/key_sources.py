"""Keys of clients and of other issuers, which verify the JWTs that callers prove themselves with."""

from __future__ import annotations

from typing import Protocol

from token_service.tokens.key_set import KeySet


class KeySource(Protocol):
    """The keys of one client or of one issuer, which others publish and replace."""

    async def keys(self, key_id: str | None) -> KeySet:
        """Return the current keys. If `key_id` is not among them, look once for newer keys.

        A returned set without `key_id` means that the issuer has no such key. How often unknown keys cause a look is
        limited. Waits only if no current set has the key. Cancelling the call has no effect on other callers. The
        same `KeySet` object is returned until its content changes.

        Raises `ForeignKeysUnavailableError` with `retry_after` if there are no current keys, or if `key_id` is not among them
        and the last look failed.
        """
        ...

"""A cache of verified claims: each token is verified once and checked often."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from token_service.tokens.claims import VerifiedClaims

MAX_AGE: Final = 300.0
"""The longest lifetime of an entry, in seconds."""
MAX_KEPT: Final = 4096
"""Bytes of the longest token kept. It limits the texts of a cache of 20,000 tokens to 80 MB instead of 320 MB."""


class CacheEntry(msgspec.Struct, gc=False, eq=False):
    """Verified claims with their last verdicts."""

    claims: VerifiedClaims
    valid_from: float
    valid_until: float
    clean_version: int = -1
    """The last version of the revocation set that did not revoke the claims; -1 before the first lookup."""


Entry = TypeVar("Entry")


class TokenCache(Generic[Entry]):
    """A bounded map from full token texts to entries, for exactly one generation of the keys of the verifier.

    The entries are in two generations. When the young generation is full it replaces the old one, and a lookup moves
    an old entry to the young generation, so entries in use stay. Any thread may use the map: each step is one dict
    operation.
    """

    __slots__ = ("_capacity", "_old", "young")

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity // 2)
        self.young: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def get(self, token: str) -> Entry | None:
        """Return the entry of a token, or None if the cache has none."""
        entry = self.young.get(token)
        if entry is None:
            entry = self._old.get(token)
            if entry is not None:
                self.put(token, entry)
        return entry

    def put(self, token: str, entry: Entry) -> None:
        """Keep an entry, unless its token is longer than `MAX_KEPT`."""
        if len(token) > MAX_KEPT:
            return
        if len(self.young) >= self._capacity:
            self._old, self.young = self.young, {}
        self.young[token] = entry

    def discard(self, token: str) -> None:
        """Forget a token."""
        self.young.pop(token, None)
        self._old.pop(token, None)

    def clear(self) -> None:
        """Forget all tokens."""
        self.young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class VerifiedCache(TokenCache[CacheEntry]):
    """A cache of verified claims by token."""

    __slots__ = ()

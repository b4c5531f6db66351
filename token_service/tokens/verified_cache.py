"""Claims verified before, so that a token is verified once and checked often."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from token_service.tokens.claims import VerifiedClaims

MAX_AGE: Final = 300.0
"""Seconds an entry lives at most."""
MAX_KEPT: Final = 4096
"""Bytes of the longest token that is kept: a cache of 20,000 takes 80 MB of texts at the most, not 320."""


class CacheEntry(msgspec.Struct, gc=False, eq=False):
    """Verified claims with the last verdicts about them."""

    claims: VerifiedClaims
    valid_from: float
    valid_until: float
    clean_version: int = -1
    """The version of the revocation set at which they were found not revoked; -1: never."""


Entry = TypeVar("Entry")


class TokenCache(Generic[Entry]):
    """A bounded map from full token texts to what is known of them; for exactly one generation of the
    verifier's keys.

    Two generations of entries: when the young one is full the old one is dropped, so what is used stays. Any
    thread may use it: each step is one dict operation.
    """

    __slots__ = ("_capacity", "_old", "young")

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity // 2)
        self.young: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def get(self, token: str) -> Entry | None:
        """The entry of a token; None if there is none."""
        entry = self.young.get(token)
        if entry is None:
            entry = self._old.get(token)
            if entry is not None:
                self.put(token, entry)
        return entry

    def put(self, token: str, entry: Entry) -> None:
        """Keep an entry, unless its token is so large that many of them would be a burden."""
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
        """Forget everything."""
        self.young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class VerifiedCache(TokenCache[CacheEntry]):
    """Verified claims by token."""

    __slots__ = ()

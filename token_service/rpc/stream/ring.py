"""The newest entries of the revocation log, encoded once for every reader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MAX_BATCH_BYTES: Final = 128 * 1024
"""Approximate maximum of a message. A reader that does not read holds one message in memory."""


class Ring:
    """Encoded entries up to `head`; beyond the capacity the oldest are dropped.

    The ring has every entry above `floor`.
    """

    __slots__ = ("_batches", "_capacity", "_entries", "head")

    def __init__(self, capacity: int, head: int) -> None:
        self._capacity = capacity
        self._entries: list[bytes] = []
        self._batches: dict[int, tuple[int, bytes]] = {}
        self.head = head

    @property
    def floor(self) -> int:
        """The highest sequence that the ring no longer has."""
        return self.head - len(self._entries)

    def reset(self, head: int) -> None:
        """Empty the ring and set its head."""
        self._entries = []
        self._batches = {}
        self.head = head

    def append(self, entries: Iterable[bytes]) -> None:
        """Add the entries that follow `head`."""
        before = len(self._entries)
        self._entries += entries
        self.head += len(self._entries) - before
        self._batches.clear()
        excess = len(self._entries) - self._capacity
        if excess > self._capacity // 8:  # in batches, so that the list is not shifted for each entry
            del self._entries[:excess]

    def batch(self, after: int) -> tuple[int, bytes]:
        """Return the sequence reached and the encoded entries after `after`, as much as fits one message.

        All readers share the same bytes.
        """
        known = self._batches.get(after)
        if known is None:
            at = start = after - self.floor
            entries, size = self._entries, 0
            while at < len(entries) and size < MAX_BATCH_BYTES:
                size += len(entries[at])
                at += 1
            known = self._batches[after] = after + at - start, b"".join(entries[start:at])
        return known

"""A set of 8-byte fingerprints in about 9 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from sys import byteorder
from typing import Final

WIDTH: Final = 8
_SLOT_BITS: Final = 3  # about 2**3 fingerprints between two entries of the index
_MIN_PENDING: Final = 512
_PENDING_SHARE: Final = 16

_Table = tuple[bytes, "array[int]", int]
"""Sorted fingerprints, byte offsets where each prefix starts, and how far to shift for the prefix."""

_EMPTY: Final[_Table] = (b"", array("Q", [0, 0]), 64)


class FingerprintSet:
    """Grows by single fingerprints or sorted blocks; never shrinks: drop it whole.

    One thread may add while others look up: a lookup reads one consistent table, so it never waits and never misses what
    was added before it began.
    """

    __slots__ = ("_pending", "_table")

    def __init__(self) -> None:
        self._table = _EMPTY
        self._pending: set[bytes] = set()

    def __contains__(self, fingerprint: bytes) -> bool:
        # The pending set is read first: a merge publishes the table before it replaces the pending set.
        if fingerprint in self._pending:
            return True
        packed, index, shift = self._table
        slot = int.from_bytes(fingerprint) >> shift
        end = index[slot + 1]
        at = packed.find(fingerprint, index[slot], end)
        while at & 7 and at > 0:  # found astride two fingerprints
            at = packed.find(fingerprint, at + 1, end)
        return at >= 0

    def __len__(self) -> int:
        return len(self._table[0]) // WIDTH + len(self._pending)

    def add(self, fingerprint: bytes) -> None:
        """Add one fingerprint of 8 bytes."""
        if fingerprint in self:
            return
        self._pending.add(fingerprint)
        if len(self._pending) > max(_MIN_PENDING, len(self._table[0]) // (WIDTH * _PENDING_SHARE)):
            self.pack()

    def update_packed(self, block: bytes) -> None:
        """Add a block of concatenated fingerprints in ascending order without repetitions.

        Raises `ValueError` if it is not that.
        """
        if len(block) % WIDTH:
            raise ValueError("a block is a multiple of 8 bytes")
        values = _values(block)
        if any(a >= b for a, b in pairwise(values)):
            raise ValueError("a block is in ascending order")
        if self._table[0] or self._pending:
            values = array("Q", sorted({*values, *_values(self.pack())}))
        self._publish(values)

    def pack(self) -> bytes:
        """All fingerprints, concatenated in ascending order."""
        pending = self._pending
        if pending:
            values = _values(self._table[0])
            values.extend(int.from_bytes(f) for f in pending)
            self._publish(array("Q", sorted(values)))
            self._pending = set()
        return self._table[0]

    def _publish(self, values: array[int]) -> None:
        slot_bits = max(0, len(values).bit_length() - _SLOT_BITS)
        shift = 64 - slot_bits
        index = array("Q" if len(values) >= 1 << 28 else "I", [0])
        at = 0
        for prefix in range(1, 1 << slot_bits):
            at = bisect_left(values, prefix << shift, at)
            index.append(at * WIDTH)
        index.append(len(values) * WIDTH)
        self._table = (_packed(values), index, shift)


def _values(packed: Iterable[int] | bytes) -> array[int]:
    values = array("Q")
    values.frombytes(packed)  # type: ignore[arg-type]
    if byteorder == "little":
        values.byteswap()
    return values


def _packed(values: array[int]) -> bytes:
    if byteorder == "little":
        values.byteswap()
    return values.tobytes()

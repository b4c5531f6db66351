"""A set of 8-byte fingerprints that takes about 13 bytes per entry, with lookups almost as fast as in a `set`."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import lt
from struct import Struct
from sys import byteorder
from typing import Final, TypeAlias

WIDTH: Final = 8
_PREFIX_BITS: Final = 30  # one digit of a Python int, so that shifting it is cheap
_PART_SIZE: Final = 8192  # fingerprints packed in one step
_SLOT_SIZE: Final = 24  # largest average of fingerprints per slot: fewer cost memory, more cost time

_sha256 = hashlib.sha256
_first_word = Struct(">I").unpack_from

Mark: TypeAlias = tuple[str, int]
"""A fingerprint prepared for lookups: a text with one character per byte, and its first 30 bits as a number."""


def fingerprint(identifier: str) -> bytes:
    """Return the fingerprint of a token or session id: the first 8 bytes of its SHA-256."""
    return _sha256(identifier.encode()).digest()[:WIDTH]


def mark_of(identifier: str) -> Mark:
    """Return the mark of a token or session id."""
    digest = _sha256(identifier.encode()).digest()
    return str(digest[:WIDTH], "latin-1"), _first_word(digest)[0] >> 2


def to_mark(fingerprint: bytes) -> Mark:
    """Return the mark of a fingerprint."""
    return str(fingerprint, "latin-1"), _first_word(fingerprint)[0] >> 2


class FingerprintSet:
    """A set that grows by single fingerprints or sorted blocks. It never shrinks: its owner drops the whole set.

    The first bits of a fingerprint choose its slot, and each slot is one text. Slots are texts, because the search
    for a text in a text is one operation of the interpreter, whereas bytes need a method call.

    One thread may add while other threads look up. A slot and the table are replaced as a whole, so a lookup never
    waits and finds every fingerprint added before the lookup began.
    """

    __slots__ = ("_count", "_sorted", "_table")

    def __init__(self) -> None:
        self._table: tuple[list[str], int] = [""], _PREFIX_BITS
        """The slots, and the shift that turns a prefix into the number of its slot."""
        self._count = 0
        self._sorted = True

    def has(self, mark: Mark) -> bool:
        """Return whether the fingerprint of a mark is in the set."""
        text, prefix = mark
        slots, shift = self._table
        slot = slots[prefix >> shift]
        return text in slot and (not slot.find(text) % WIDTH or _aligned(slot, text))

    def __contains__(self, fingerprint: bytes) -> bool:
        return self.has(to_mark(fingerprint))

    def __len__(self) -> int:
        return self._count

    def add(self, mark: Mark) -> None:
        """Add one fingerprint."""
        if self.has(mark):
            return
        text, prefix = mark
        slots, shift = self._table
        number = prefix >> shift
        slot = slots[number]
        self._sorted = self._sorted and slot[-WIDTH:] < text
        slots[number] = slot + text
        self._count += 1
        if self._count > len(slots) * _SLOT_SIZE:
            self._rebuild(self._values())

    def update_packed(self, block: bytes) -> None:
        """Add a block of concatenated fingerprints in ascending order without repetitions.

        Raises `ValueError` for any other block.
        """
        if len(block) % WIDTH:
            raise ValueError("the length of a block must be a multiple of 8 bytes")
        values = _numbers(block)
        if not all(map(lt, values, islice(values, 1, None))):
            raise ValueError("the fingerprints of a block must be in ascending order")
        if not values:
            return
        if not self._count:
            self._rebuild(values)
            return
        self._merge(values, block.decode("latin-1"))
        if self._count > len(self._table[0]) * _SLOT_SIZE:
            self._rebuild(self._values())

    def pack(self) -> Iterator[bytes]:
        """Yield all fingerprints in ascending order, in concatenated parts of some thousands each.

        Fingerprints added during the iteration may be missing.
        """
        slots, _ = self._table
        step = _PART_SIZE // _SLOT_SIZE
        for at in range(0, len(slots), step):
            values = array("Q", sorted(_numbers("".join(slots[at : at + step]).encode("latin-1"))))
            if values:
                yield _text(values).encode("latin-1")

    def _merge(self, values: array[int], text: str) -> None:
        slots, shift = self._table
        shift += 64 - _PREFIX_BITS
        at = 0
        while at < len(values):
            number = values[at] >> shift
            end = bisect_left(values, (number + 1) << shift, at)
            slot = slots[number]
            chunk = text[at * WIDTH : end * WIDTH]
            if slot:
                fresh = [f for f in _split(chunk) if f not in slot or not _aligned(slot, f)]
                chunk = "".join(fresh)
                self._sorted = self._sorted and (not fresh or slot[-WIDTH:] < fresh[0])
            slots[number] = slot + chunk
            self._count += len(chunk) // WIDTH
            at = end

    def _values(self) -> array[int]:
        """Return all fingerprints as numbers in ascending order."""
        values = _numbers("".join(self._table[0]).encode("latin-1"))
        return values if self._sorted else array("Q", sorted(values))

    def _rebuild(self, values: array[int]) -> None:
        """Replace the table by one of these fingerprints, given in ascending order."""
        slot_bits = min(_PREFIX_BITS, (max(0, len(values) - 1) // _SLOT_SIZE).bit_length())
        text = _text(values)
        slots, at = [], 0
        shift = 64 - slot_bits
        for number in range(1, 1 << slot_bits):
            end = bisect_left(values, number << shift, at)
            slots.append(text[at * WIDTH : end * WIDTH])
            at = end
        slots.append(text[at * WIDTH :])
        self._table = slots, _PREFIX_BITS - slot_bits
        self._count = len(values)
        self._sorted = True


def _aligned(slot: str, text: str) -> bool:
    """Return whether `text` is a fingerprint of the slot, and not only a match that spans two fingerprints."""
    at = slot.find(text)
    while at >= 0 and at % WIDTH:
        at = slot.find(text, at + 1)
    return at >= 0


def _split(text: str) -> list[str]:
    return [text[at : at + WIDTH] for at in range(0, len(text), WIDTH)]


def _numbers(packed: bytes) -> array[int]:
    values = array("Q")
    values.frombytes(packed)
    if byteorder == "little":
        values.byteswap()
    return values


def _text(values: array[int]) -> str:
    if byteorder == "big":
        return values.tobytes().decode("latin-1")
    swapped = values[:]
    swapped.byteswap()
    return swapped.tobytes().decode("latin-1")

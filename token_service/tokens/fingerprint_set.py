"""A set of 8-byte fingerprints in about 13 bytes each, looked up almost as fast as in a `set`."""

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
_PART_SIZE: Final = 8192  # fingerprints packed without a pause
_SLOT_SIZE: Final = 24  # fingerprints a slot, on average and at most: fewer cost memory, more cost time

_sha256 = hashlib.sha256
_first_word = Struct(">I").unpack_from

Mark: TypeAlias = tuple[str, int]
"""A fingerprint made ready to be looked up: one character a byte, and its first 30 bits as a number."""


def fingerprint(identifier: str) -> bytes:
    """What stands for a token or session id in a packed set: the first 8 bytes of its SHA-256."""
    return _sha256(identifier.encode()).digest()[:WIDTH]


def mark_of(identifier: str) -> Mark:
    """The mark of a token or session id."""
    digest = _sha256(identifier.encode()).digest()
    return str(digest[:WIDTH], "latin-1"), _first_word(digest)[0] >> 2


def to_mark(fingerprint: bytes) -> Mark:
    """The mark of a fingerprint."""
    return str(fingerprint, "latin-1"), _first_word(fingerprint)[0] >> 2


class FingerprintSet:
    """Grows by single fingerprints or sorted blocks; never shrinks: drop it whole.

    The fingerprints lie in slots chosen by their first bits, each slot one text. Text, because searching for
    a text in a text is a single operation of the interpreter where bytes need a method call.

    One thread may add while others look up: a slot and the table are replaced whole, so a lookup never waits
    and never misses what was added before it began.
    """

    __slots__ = ("_count", "_sorted", "_table")

    def __init__(self) -> None:
        self._table: tuple[list[str], int] = [""], _PREFIX_BITS
        """The slots, and how far to shift a prefix to get the number of its slot."""
        self._count = 0
        self._sorted = True

    def has(self, mark: Mark) -> bool:
        """Whether the fingerprint of this mark is in the set."""
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

        Raises `ValueError` if it is not that.
        """
        if len(block) % WIDTH:
            raise ValueError("a block is a multiple of 8 bytes")
        values = _numbers(block)
        if not all(map(lt, values, islice(values, 1, None))):
            raise ValueError("a block is in ascending order")
        if not values:
            return
        if not self._count:
            self._rebuild(values)
            return
        self._merge(values, block.decode("latin-1"))
        if self._count > len(self._table[0]) * _SLOT_SIZE:
            self._rebuild(self._values())

    def pack(self) -> Iterator[bytes]:
        """All fingerprints in ascending order, some thousands at a time, concatenated; of those added
        meanwhile, some.
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
        """All fingerprints as numbers in ascending order."""
        values = _numbers("".join(self._table[0]).encode("latin-1"))
        return values if self._sorted else array("Q", sorted(values))

    def _rebuild(self, values: array[int]) -> None:
        """Publish a table of these fingerprints, which are in ascending order."""
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
    """Whether one of the slot's fingerprints is `text`, which may lie astride two of them as well."""
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

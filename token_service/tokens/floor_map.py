"""A map from the fingerprint of a name to its revocation floor, in about 35 bytes per record."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, TypeAlias

from token_service.tokens.fingerprint_set import WIDTH, Mark

_PREFIX_BITS: Final = 30
_SLOT_SIZE: Final = 24  # largest average of records per slot: fewer cost memory, more cost time

_record = Struct(">Qd")
RECORD: Final = _record.size

_Slot: TypeAlias = tuple[str, bytes, tuple[bytes, ...]]
"""Fingerprints with one character per byte, their records in the same order, and their names, if kept."""
_EMPTY: Final[_Slot] = ("", b"", ())


class FloorMap:
    """A map that grows by single records. It never shrinks: its owner drops the whole map.

    A record is a sequence and a time: tokens older than either are revoked. Names with the same fingerprint share
    the later sequence and the later time, so a collision revokes too much, never too little. An attacker needs 2^32 tries
    to find two names that collide, and 2^64 to find one that collides with a given name.

    One thread may add while other threads look up: slots and tables are replaced as a whole. A table that is too
    small is copied into a larger table one slot per addition, so no single addition takes long.
    """

    __slots__ = ("_copied", "_count", "_larger", "_table")

    def __init__(self) -> None:
        self._table: tuple[list[_Slot], int] = [_EMPTY], _PREFIX_BITS
        """The slots, and the shift that turns a prefix into the number of its slot."""
        self._larger: list[_Slot] = []
        """The unfinished next table, with twice as many slots."""
        self._copied = 0
        """The number of slots of `_table` already copied to `_larger`."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, mark: Mark) -> tuple[int, float] | None:
        """Return the sequence and time of a name, or None if the map has no record of it."""
        text, prefix = mark
        slots, shift = self._table
        keys, records, _ = slots[prefix >> shift]
        if text not in keys:
            return None
        at = _position(keys, text, 0)
        return None if at < 0 else _record.unpack_from(records, at * RECORD)

    def join(self, mark: Mark, sequence: int, time: float, name: bytes | None = None) -> None:
        """Raise the sequence and the time of a name to at least these values."""
        text, prefix = mark
        slots, shift = self._table
        number = prefix >> shift
        keys, records, names = slots[number]
        at = _position(keys, text, 0) if text in keys else -1
        missing = True
        if at >= 0:
            known = _record.unpack_from(records, at * RECORD)
            record = _record.pack(max(sequence, known[0]), max(time, known[1]))
            while at >= 0:
                records = records[: at * RECORD] + record + records[(at + 1) * RECORD :]
                missing = missing and name is not None and names[at] != name
                at = _position(keys, text, at + 1)
        else:
            record = _record.pack(sequence, time)
        if missing:
            keys += text
            records += record
            if name is not None:
                names += (name,)
            self._count += 1
        slots[number] = keys, records, names
        if self._copied > number:
            self._copy(number)
        if self._count > len(slots) * _SLOT_SIZE:  # stays true until the larger table is complete
            self._grow()

    def records(self) -> Iterator[tuple[bytes, int, float, bytes]]:
        """Yield fingerprint, sequence, time and name (empty if names are not kept) of each record.

        Records added during the iteration may be missing.
        """
        slots, _ = self._table
        for keys, records, names in slots:
            fingerprints = keys.encode("latin-1")
            for at, (sequence, time) in enumerate(_record.iter_unpack(records)):
                name = names[at] if names else b""
                yield fingerprints[at * WIDTH : (at + 1) * WIDTH], sequence, time, name

    def _grow(self) -> None:
        slots, shift = self._table
        if not self._larger:
            self._larger = [_EMPTY, _EMPTY] * len(slots)
        self._copy(self._copied)
        self._copied += 1
        if self._copied == len(slots):
            self._table = self._larger, shift - 1
            self._larger = []
            self._copied = 0

    def _copy(self, number: int) -> None:
        """Split a slot of the table into two slots of the larger table, by the next bit of the prefixes."""
        _, shift = self._table
        keys, records, names = self._table[0][number]
        byte, bit = divmod(_PREFIX_BITS - shift, 8)
        mask = 0x80 >> bit
        parts: list[list[int]] = [[], []]
        for at in range(len(keys) // WIDTH):
            parts[bool(ord(keys[at * WIDTH + byte]) & mask)].append(at)
        for half, part in enumerate(parts):
            self._larger[2 * number + half] = (
                "".join([keys[at * WIDTH : (at + 1) * WIDTH] for at in part]),
                b"".join([records[at * RECORD : (at + 1) * RECORD] for at in part]),
                tuple([names[at] for at in part]) if names else (),
            )


def _position(keys: str, text: str, start: int) -> int:
    """Return the index of the first fingerprint equal to `text`, at or after index `start`; -1 if none is equal."""
    at = keys.find(text, start * WIDTH)
    while at >= 0 and at % WIDTH:  # the match spans two fingerprints
        at = keys.find(text, at + 1)
    return at // WIDTH

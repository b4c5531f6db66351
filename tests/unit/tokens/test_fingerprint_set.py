from __future__ import annotations

import random
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from token_service.tokens.fingerprint_set import WIDTH, FingerprintSet, Mark, fingerprint, mark_of

# Few different bytes, so that a match often spans two members.
_fingerprints = st.one_of(
    st.binary(min_size=8, max_size=8),
    st.lists(st.sampled_from([0, 1, 255]), min_size=8, max_size=8).map(bytes),
)
_blocks = st.lists(_fingerprints, max_size=80, unique=True).map(sorted)


def mark(value: bytes) -> Mark:
    return value.decode("latin-1"), int.from_bytes(value[:4]) >> 2


class AgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ours = FingerprintSet()
        self.model: set[bytes] = set()

    @rule(value=_fingerprints)
    def add(self, value: bytes) -> None:
        self.ours.add(mark(value))
        self.model.add(value)

    @rule(block=_blocks)
    def update(self, block: list[bytes]) -> None:
        self.ours.update_packed(b"".join(block))
        self.model.update(block)

    @rule(value=_fingerprints)
    def ask(self, value: bytes) -> None:
        assert (value in self.ours) == (value in self.model)

    @rule()
    def pack(self) -> None:
        assert b"".join(self.ours.pack()) == b"".join(sorted(self.model))

    @invariant()
    def same_members(self) -> None:
        assert len(self.ours) == len(self.model)
        assert all(value in self.ours for value in self.model)


TestAgainstASet = AgainstASet.TestCase
TestAgainstASet.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


@given(_blocks)
def test_match_that_spans_two_members_is_found_only_if_it_is_a_member(block: list[bytes]) -> None:
    ours = FingerprintSet()
    ours.update_packed(b"".join(block))
    for left, right in pairwise(block):
        for cut in range(1, WIDTH):
            astride = (left + right)[cut : cut + WIDTH]
            assert (astride in ours) == (astride in block)


@pytest.mark.parametrize("size", [0, 1, 24, 25, 5_000, 100_000])
def test_sets_of_every_size_find_their_members_only(size: int) -> None:
    source = random.Random(size)
    values = sorted({source.randbytes(8) for _ in range(size)})
    whole, pieces, single = FingerprintSet(), FingerprintSet(), FingerprintSet()
    whole.update_packed(b"".join(values))
    for at in range(0, size, 1000):
        pieces.update_packed(b"".join(values[at : at + 1000]))
    for value in source.sample(values, len(values)):
        single.add(mark(value))
    for ours in (whole, pieces, single):
        assert b"".join(ours.pack()) == b"".join(values)
        assert len(ours) == len(values)
        assert all(value in ours for value in values)
        assert not any(source.randbytes(8) in ours for _ in range(1000))


@pytest.mark.parametrize(
    "block", [b"1234567", b"\1" * 8 + b"\0" * 8, b"\1" * 16], ids=["width", "order", "twice"]
)
def test_unpacked_block_is_refused(block: bytes) -> None:
    ours = FingerprintSet()
    ours.add(mark(b"abcdefgh"))
    with pytest.raises(ValueError, match="block"):
        ours.update_packed(block)
    assert b"".join(ours.pack()) == b"abcdefgh"


def numbered(*numbers: int) -> list[bytes]:
    """Return fingerprints with a common prefix, so that they share a slot of any table."""
    return [bytes(6) + number.to_bytes(2) for number in numbers]


def spread(count: int) -> list[bytes]:
    """Return fingerprints in ascending order, spread evenly over the slots."""
    return [(at * (2**64 // count)).to_bytes(8) for at in range(count)]


@pytest.mark.parametrize("packed", [False, True], ids=["one by one", "packed"])
def test_block_before_present_members_is_packed_in_order(*, packed: bool) -> None:
    ours = FingerprintSet()
    ours.add(mark(b"\xff" * 8))
    others = spread(26)
    if packed:
        ours.update_packed(b"".join(others))
    else:
        for value in others:
            ours.add(mark(value))
    assert len(ours._table[0]) > 1
    assert all(value in ours for value in (*others, b"\xff" * 8))
    assert b"".join(ours.pack()) == b"".join([*others, b"\xff" * 8])


def test_sorted_block_after_unsorted_members_is_packed_in_order() -> None:
    ours = FingerprintSet()
    values = spread(30)
    for value in (values[3], values[1]):
        ours.add(mark(value))
    ours.update_packed(b"".join(values[4:]))
    assert len(ours._table[0]) > 1
    assert all(value in ours for value in (values[1], *values[3:]))
    assert b"".join(ours.pack()) == b"".join([values[1], *values[3:]])


def test_packed_member_is_added_once_even_if_it_matches_across_two_members() -> None:
    ours = FingerprintSet()
    ours.update_packed(b"\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\3")
    astride = b"\0\0\0\1\0\0\0\2"
    assert astride not in ours
    ours.update_packed(b"\0\0\0\0\0\0\0\1" + astride)
    assert astride in ours
    assert len(ours) == 3
    ours.update_packed(astride)
    assert len(ours) == 3


@pytest.mark.parametrize("packed", [False, True], ids=["one by one", "packed"])
def test_table_grows_when_slots_exceed_24_fingerprints_on_average(*, packed: bool) -> None:
    ours = FingerprintSet()
    values = numbered(*range(200))
    sizes = set()
    for count, value in enumerate(values, 1):
        before = ours._table
        if packed:
            ours.update_packed(value)
        else:
            ours.add(mark(value))
        slots, _ = ours._table
        assert len(ours) == count
        assert count <= len(slots) * 24
        if count > 1 and count <= len(before[0]) * 24:
            assert ours._table is before
        sizes.add(len(slots))
    assert sizes == {1, 2, 4, 8, 16}


def test_small_block_added_to_large_set_is_counted() -> None:
    ours = FingerprintSet()
    ours.update_packed(b"".join(spread(1 << 12)))
    before = ours._table
    ours.update_packed(b"".join(numbered(1, 2, 3)))
    assert ours._table is before
    assert len(ours) == (1 << 12) + 3


def test_pack_yields_no_empty_part() -> None:
    ours = FingerprintSet()
    assert list(ours.pack()) == []
    values = numbered(1) + [b"\xff" + value[1:] for value in numbered(*range(40_000))]
    ours.update_packed(b"".join(values))
    assert b"".join(ours.pack()) == b"".join(values)
    assert all(ours.pack())
    even = FingerprintSet()
    even.update_packed(b"".join(spread(1 << 15)))
    assert {len(part) // WIDTH for part in even.pack()} <= set(range(1, 8193))
    assert len(list(even.pack())) > 3


def test_mark_of_id_is_mark_of_its_fingerprint() -> None:
    assert mark_of("an id") == mark(fingerprint("an id"))
    assert (
        fingerprint("abc").hex() == "ba7816bf8f01cfea"
    )  # FIPS 180-2, the first half of the first words of SHA-256("abc")


def test_million_ids_take_at_most_16_bytes_each() -> None:
    source = random.Random(1)
    ours = FingerprintSet()
    ours.update_packed(b"".join(sorted(source.randbytes(8) for _ in range(1_000_000))))
    slots, _ = ours._table
    size = sys.getsizeof(slots) + sum((sys.getsizeof(slot) + 15) // 16 * 16 for slot in slots)
    assert size / len(ours) <= 16


def test_reader_finds_every_member_added_before_its_lookup() -> None:
    ours = FingerprintSet()
    source = random.Random(2)
    values = [source.randbytes(8) for _ in range(30_000)]
    added = 0
    missed: list[bytes] = []

    def read() -> None:
        while added < len(values):
            known = added
            if known:
                at = source.randrange(known)
                if values[at] not in ours:
                    missed.append(values[at])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for value in values:
        ours.add(mark(value))
        added += 1
    for reader in readers:
        reader.join()
    assert missed == []

from __future__ import annotations

import random
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from token_service.tokens.fingerprint_set import WIDTH, FingerprintSet, Mark, fingerprint, mark_of

# Few different bytes, so that a fingerprint often lies astride two others.
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
def test_a_member_astride_two_others_is_found_and_nothing_else_is(block: list[bytes]) -> None:
    ours = FingerprintSet()
    ours.update_packed(b"".join(block))
    for left, right in pairwise(block):
        for cut in range(1, WIDTH):
            astride = (left + right)[cut : cut + WIDTH]
            assert (astride in ours) == (astride in block)


@pytest.mark.parametrize("size", [0, 1, 24, 25, 5_000, 100_000])
def test_sizes(size: int) -> None:
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
def test_a_block_that_is_not_packed_is_refused(block: bytes) -> None:
    ours = FingerprintSet()
    ours.add(mark(b"abcdefgh"))
    with pytest.raises(ValueError, match="block"):
        ours.update_packed(block)
    assert b"".join(ours.pack()) == b"abcdefgh"


def test_mark_is_the_fingerprint_made_ready() -> None:
    assert mark_of("an id") == mark(fingerprint("an id"))
    assert (
        fingerprint("abc").hex() == "ba7816bf8f01cfea"
    )  # FIPS 180-2, the first half of the first words of SHA-256("abc")


def test_at_most_16_bytes_an_id_at_a_million() -> None:
    source = random.Random(1)
    ours = FingerprintSet()
    ours.update_packed(b"".join(sorted(source.randbytes(8) for _ in range(1_000_000))))
    slots, _ = ours._table
    size = sys.getsizeof(slots) + sum((sys.getsizeof(slot) + 15) // 16 * 16 for slot in slots)
    assert size / len(ours) <= 16


def test_a_reader_never_misses_what_was_added_before_it_looked() -> None:
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

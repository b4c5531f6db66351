from __future__ import annotations

from hypothesis import given, strategies as st

from token_service.rpc.stream.ring import MAX_BATCH_BYTES, Ring


def entries(first: int, last: int) -> list[bytes]:
    return [b"<%d>" % number for number in range(first, last + 1)]


def test_entries_after_a_cursor_come_as_one_batch() -> None:
    ring = Ring(100, 7)
    assert (ring.floor, ring.head) == (7, 7)
    ring.append(entries(8, 10))
    assert (ring.floor, ring.head) == (7, 10)
    assert ring.batch(7) == (10, b"<8><9><10>")
    assert ring.batch(9) == (10, b"<10>")
    assert ring.batch(10) == (10, b"")


def test_readers_at_the_same_cursor_get_the_same_bytes() -> None:
    ring = Ring(100, 0)
    ring.append(entries(1, 3))
    assert ring.batch(1)[1] is ring.batch(1)[1]
    ring.append(entries(4, 4))
    assert ring.batch(1) == (4, b"<2><3><4>")


def test_a_batch_has_about_the_size_of_a_message() -> None:
    ring = Ring(10_000, 0)
    ring.append([bytes(1000)] * 1000)
    reached, data = ring.batch(0)
    assert MAX_BATCH_BYTES <= len(data) < MAX_BATCH_BYTES + 1000
    assert reached == len(data) // 1000
    assert ring.batch(990) == (1000, bytes(10_000))


def test_oldest_entries_are_dropped_beyond_the_capacity() -> None:
    ring = Ring(16, 0)
    for number in range(1, 1000):
        ring.append(entries(number, number))
        assert ring.head - ring.floor <= 16 + 3
        assert ring.head - ring.floor >= min(number, 16)
    ring.append(entries(1000, 2000))
    assert (ring.floor, ring.head) == (1984, 2000)
    assert ring.batch(1998) == (2000, b"<1999><2000>")


def test_ring_is_empty_after_a_reset() -> None:
    ring = Ring(16, 0)
    ring.append(entries(1, 5))
    ring.batch(3)
    ring.reset(3)
    assert (ring.floor, ring.head) == (3, 3)
    assert ring.batch(3) == (3, b"")


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 40), st.integers(0, 5))
def test_batches_have_every_entry(sizes: list[int], capacity: int, start: int) -> None:
    ring = Ring(capacity, start)
    for size in sizes:
        ring.append(entries(ring.head + 1, ring.head + size))
    at, seen = ring.floor, b""
    while at < ring.head:
        at, data = ring.batch(at)
        seen += data
    assert seen == b"".join(entries(ring.floor + 1, ring.head))

from __future__ import annotations

import random
import threading
import tracemalloc

from hypothesis import given, strategies as st

from token_service.tokens.fingerprint_set import Mark, fingerprint, mark_of, to_mark
from token_service.tokens.floor_map import FloorMap

_names = st.text(max_size=3)


@given(st.lists(st.tuples(_names, st.integers(0, 2**53), st.floats(0, 2e9)), max_size=200), st.lists(_names))
def test_map_holds_greatest_sequence_and_time_of_each_name(
    joins: list[tuple[str, int, float]], others: list[str]
) -> None:
    floors, expected = FloorMap(), dict[str, tuple[int, float]]()
    for name, sequence, time in joins:
        floors.join(mark_of(name), sequence, time, name.encode())
        known = expected.get(name, (0, 0.0))
        expected[name] = max(sequence, known[0]), max(time, known[1])
    for name in (*expected, *others):
        assert floors.find(mark_of(name)) == expected.get(name)
    assert len(floors) == len(expected)
    assert sorted(floors.records()) == sorted(
        (fingerprint(name), *values, name.encode()) for name, values in expected.items()
    )


def test_growth_keeps_every_record_exactly_once() -> None:
    floors = FloorMap()
    for number in range(20_000):
        floors.join(mark_of(f"subject-{number}"), number, float(number))
        if number % 3 == 0:  # also old records while the table is copied
            floors.join(mark_of(f"subject-{number // 3}"), number, 0.0)
        if number % 997 == 0:
            assert floors.find(mark_of(f"subject-{number}")) == (number, float(number))
    assert len(floors) == 20_000
    for number in range(20_000):
        sequence = max(number, 3 * number if 3 * number < 20_000 else 0)
        assert floors.find(mark_of(f"subject-{number}")) == (sequence, float(number))
        assert floors.find(mark_of(f"other-{number}")) is None
    assert len({record[0] for record in floors.records()}) == 20_000


def test_growth_keeps_names() -> None:
    floors = FloorMap()
    for number in range(1000):
        floors.join(mark_of(f"subject-{number}"), number, float(number), f"subject-{number}".encode())
    assert sorted(floors.records()) == sorted(
        (fingerprint(f"subject-{number}"), number, float(number), f"subject-{number}".encode())
        for number in range(1000)
    )


def test_names_with_same_fingerprint_share_the_greatest_values() -> None:
    floors, mark = FloorMap(), mark_of("one")
    floors.join(mark, 5, 10.0, b"one")
    floors.join(mark, 3, 20.0, b"two")
    floors.join(mark, 9, 1.0, b"one")
    assert floors.find(mark) == (9, 20.0)
    assert sorted(floors.records()) == [
        (fingerprint("one"), 9, 20.0, b"one"),
        (fingerprint("one"), 9, 20.0, b"two"),
    ]


def test_match_that_spans_two_fingerprints_is_not_found() -> None:
    first, second = b"\0\0\0\0abcd", b"\0\0\0\0\0\0ef"
    astride = to_mark(first[6:] + second[:6])
    floors = FloorMap()
    for text in (first, second):
        floors.join(to_mark(text), 1, 1.0)
    same_slot: Mark = astride[0], 0
    assert floors.find(same_slot) is None
    floors.join(same_slot, 7, 7.0)
    assert floors.find(same_slot) == (7, 7.0)
    assert floors.find(to_mark(second)) == (1, 1.0)


def test_fingerprint_after_spanning_match_is_found() -> None:
    floors = FloorMap()
    for sequence, text in enumerate((b"\0\0\0\0\0\0\0a", b"aaaaaaaa"), 1):
        floors.join(to_mark(text), sequence, 1.0)
    assert floors.find(to_mark(b"aaaaaaaa")) == (2, 1.0)


def test_other_thread_finds_every_record_added_before_its_lookup() -> None:
    floors, done, missed = FloorMap(), threading.Event(), []
    marks = [mark_of(f"subject-{number}") for number in range(30_000)]
    added = 0

    def look() -> None:
        source = random.Random(1)
        while not done.is_set():
            known = added
            if known:
                number = source.randrange(known)
                if floors.find(marks[number]) != (number, 1.0):
                    missed.append(number)

    thread = threading.Thread(target=look)
    thread.start()
    for number, mark in enumerate(marks):
        floors.join(mark, number, 1.0)
        added = number + 1
    done.set()
    thread.join()
    assert missed == []


def test_record_takes_less_than_64_bytes() -> None:
    tracemalloc.start()
    floors = FloorMap()
    for number in range(100_000):
        floors.join(mark_of(f"subject-{number}"), 2**50 + number, 1.7e9)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 100_000 < 64

"""User codes and the pace of polls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from token_service.core.grants.device_codes import (
    USER_CODE_ALPHABET,
    USER_CODE_LENGTH,
    DeviceCodes,
    parse_user_code,
    shown_user_code,
    user_code_digest,
)
from token_service.core.grants.device_paces import MAX_INTERVAL, MAX_PACES, Paces
from token_service.errors import SlowDownError

SEALER: Any = None


def test_user_codes_have_eight_letters_that_are_equally_likely() -> None:
    codes = DeviceCodes(SEALER, Random(1).randbytes)
    drawn = [codes.new_user_code() for _ in range(5000)]
    assert len(set(drawn)) == 5000
    for place in range(USER_CODE_LENGTH):
        counts = Counter(code[place] for code in drawn)
        assert set(counts) == set(USER_CODE_ALPHABET)
        assert all(170 < count < 330 for count in counts.values())  # 250 +- 5 standard deviations


def test_alphabet_has_no_vowels_and_no_letters_that_look_alike() -> None:
    assert len(USER_CODE_ALPHABET) == len(set(USER_CODE_ALPHABET)) == 20
    assert not set(USER_CODE_ALPHABET) & set("AEIOUY0123456789")
    assert len(USER_CODE_ALPHABET) ** USER_CODE_LENGTH > 2.5e10


@given(
    st.text(USER_CODE_ALPHABET, min_size=8, max_size=8),
    st.lists(st.sampled_from(["", "-", " ", ".", "–"]), min_size=9, max_size=9),  # noqa: RUF001 - a dash
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_typed_code_is_read_whatever_its_case_and_separators(
    code: str, separators: list[str], case: Callable[[str], str]
) -> None:
    typed = separators[8].join(["", *(a + b for a, b in zip(separators, code, strict=False))])
    assert parse_user_code(case(typed)) == code
    assert parse_user_code(shown_user_code(code)) == code


@pytest.mark.parametrize(
    "typed",
    ["", "BCDFGHJ", "BCDFGHJKL", "ABCDFGHJ", "BCDF0HJK", "\u0392CDFGHJK", "BCDFGHJK" + " " * 57, "ß" * 4],
)
def test_text_that_is_no_user_code_is_none(typed: str) -> None:
    assert parse_user_code(typed) is None


def test_digest_names_one_code() -> None:
    assert user_code_digest("BCDFGHJK") != user_code_digest("BCDFGHJL")


class Time:
    now = 100.0


def test_interval_grows_up_to_a_minute_and_a_poll_may_be_a_second_early() -> None:
    time = Time()
    paces = Paces(lambda: time.now)
    paces.poll(b"a")
    time.now += 4.0
    paces.poll(b"a")
    for expected in (10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, MAX_INTERVAL):
        time.now += 3.9
        with pytest.raises(SlowDownError) as caught:
            paces.poll(b"a")
        assert caught.value.metadata["interval"] == str(int(expected))
    time.now += 59.0
    paces.poll(b"a")
    paces.forget(b"a")
    paces.poll(b"a")


def test_memory_of_paces_is_bounded_and_keeps_the_codes_polled_last() -> None:
    paces = Paces(lambda: 100.0)
    for number in range(MAX_PACES + 10):
        paces.poll(number.to_bytes(4))
    assert len(paces) == MAX_PACES
    paces.poll((0).to_bytes(4))
    with pytest.raises(SlowDownError):
        paces.poll((MAX_PACES + 9).to_bytes(4))

"""Sealed values and blind indexes."""

from __future__ import annotations

import itertools
import secrets

import pytest
from hypothesis import given, strategies as st

from token_service.core.personal_data.cipher import (
    MARK,
    DamagedPersonalDataError,
    Kind,
    PersonalCipher,
    Place,
    UnknownDataKeyError,
)
from token_service.tokens.secret import Secret

INDEX_KEY = Secret(b"i" * 32)
KEYS = {2: Secret(b"2" * 32), 3: Secret(b"3" * 32)}
CIPHER = PersonalCipher(KEYS, INDEX_KEY, secrets.token_bytes)
ROW = b"row-1"


@given(st.sampled_from(Place), st.binary(max_size=40), st.binary(max_size=300))
def test_opened_value_is_the_sealed_one(place, row, plaintext):
    sealed = CIPHER.seal(place, row, plaintext)
    assert CIPHER.open(place, row, sealed) == plaintext
    assert CIPHER.open_text(place, row, CIPHER.seal_text(place, row, plaintext)) == plaintext
    assert len(sealed) == 1 + 4 + 1 + 12 + len(plaintext) + 16


@given(st.binary(max_size=60), st.data())
def test_value_with_any_flipped_bit_does_not_open(plaintext, data):
    sealed = bytearray(CIPHER.seal(Place.SESSION, ROW, plaintext))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises((DamagedPersonalDataError, UnknownDataKeyError)):
        CIPHER.open(Place.SESSION, ROW, bytes(sealed))


def test_value_of_every_shorter_length_does_not_open():
    sealed = CIPHER.seal(Place.SESSION, ROW, b"alice")
    for length in range(len(sealed)):
        with pytest.raises(DamagedPersonalDataError):
            CIPHER.open(Place.SESSION, ROW, sealed[:length])


def test_value_opens_only_in_its_row_and_place():
    sealed = CIPHER.seal(Place.SESSION, ROW, b"alice")
    with pytest.raises(DamagedPersonalDataError, match="a sealed value of sessions"):
        CIPHER.open(Place.SESSION, b"row-2", sealed)
    for place in set(Place) - {Place.SESSION}:
        with pytest.raises(DamagedPersonalDataError):
            CIPHER.open(place, ROW, sealed)


def test_newest_key_seals_and_every_key_opens():
    older = PersonalCipher({2: KEYS[2]}, INDEX_KEY, secrets.token_bytes)
    sealed = older.seal(Place.SESSION, ROW, b"alice")
    assert CIPHER.open(Place.SESSION, ROW, sealed) == b"alice"
    assert (older.version, CIPHER.version) == (2, 3)
    with pytest.raises(UnknownDataKeyError, match="data key 3"):
        older.open(Place.SESSION, ROW, CIPHER.seal(Place.SESSION, ROW, b"alice"))


def test_equal_values_are_sealed_differently_with_256_subkeys():
    counter = itertools.count()
    cipher = PersonalCipher(KEYS, INDEX_KEY, lambda count: bytes([next(counter)]) * count)
    sealed = [cipher.seal(Place.SESSION, ROW, b"alice") for _ in range(256)]
    assert len({each[18:] for each in sealed}) == 256
    assert all(cipher.open(Place.SESSION, ROW, each) == b"alice" for each in sealed)


@given(st.text(min_size=1))
def test_index_depends_on_value_kind_and_key(value):
    index = CIPHER.index(Kind.SUBJECT, value)
    same = PersonalCipher({9: Secret(b"9" * 32)}, INDEX_KEY, secrets.token_bytes)
    other = PersonalCipher(KEYS, Secret(b"j" * 32), secrets.token_bytes)
    assert same.index(Kind.SUBJECT, value) == index
    assert index[0] == MARK
    assert not index.isprintable()
    assert len(index) == 44
    found = {index, CIPHER.index(Kind.DEVICE, value), other.index(Kind.SUBJECT, value)}
    assert len({*found, CIPHER.index(Kind.SUBJECT, value + "x")}) == 4


def test_index_of_an_empty_value_is_empty():
    assert CIPHER.index(Kind.DEVICE, "") == ""


@pytest.mark.parametrize("text", ["", MARK, MARK + "!", MARK + "AAAA", MARK + "ä"])
def test_text_that_is_not_sealed_does_not_open(text):
    with pytest.raises(DamagedPersonalDataError):
        CIPHER.open_text(Place.SESSION, ROW, text)


def test_repr_shows_no_key():
    assert repr(CIPHER) == "<PersonalCipher 3>"

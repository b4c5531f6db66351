"""Sealed values."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from token_service.errors import KeysStaleError
from token_service.tokens.opaque_token import MacKeys, NewerKeyError, OpaqueTokenError
from token_service.tokens.sealed import MAX_SEALED, open_sealed, seal
from token_service.tokens.secret import Secret

OLD = MacKeys({1: Secret(b"1" * 32)}, active=1)
KEYS = MacKeys({1: Secret(b"1" * 32), 7: Secret(b"7" * 32)}, active=7)
NONCE = bytes(12)


@given(st.binary(max_size=1000), st.sampled_from(["login", "code"]), st.binary(min_size=12, max_size=12))
def test_a_sealed_value_opens_with_the_key_of_its_version(payload: bytes, purpose: str, nonce: bytes) -> None:
    assert open_sealed(KEYS, purpose, seal(KEYS, purpose, payload, nonce)) == payload
    assert open_sealed(KEYS, purpose, seal(OLD, purpose, payload, nonce)) == payload


def test_a_sealed_value_opens_for_its_purpose_only() -> None:
    with pytest.raises(OpaqueTokenError):
        open_sealed(KEYS, "code", seal(KEYS, "login", b"payload", NONCE))


def test_the_payload_can_not_be_read_in_the_text() -> None:
    text = seal(KEYS, "code", b"alice@example.org" * 4, NONCE)
    assert "YWxpY2V" not in text  # base64 of "alice"


@given(st.one_of(st.text(max_size=100), st.text(alphabet="ABCabc012-_", max_size=100)))
def test_no_other_text_opens(text: str) -> None:
    with pytest.raises(OpaqueTokenError):
        open_sealed(KEYS, "code", text)


@given(st.integers(0, 7 * 8 - 1))
def test_a_changed_bit_of_the_end_is_noticed(bit: int) -> None:
    from token_service.tokens import base64url

    data = bytearray(base64url.decode(seal(KEYS, "code", b"payload", NONCE).encode()))
    data[-1 - bit // 8] ^= 1 << bit % 8
    with pytest.raises(OpaqueTokenError):
        open_sealed(KEYS, "code", base64url.encode(bytes(data)))


def test_a_value_of_a_newer_key_says_so() -> None:
    text = seal(KEYS, "code", b"payload", NONCE)
    with pytest.raises(NewerKeyError):
        open_sealed(OLD, "code", text)
    with pytest.raises(KeysStaleError):
        open_sealed(MacKeys(OLD.keys, 1, behind=True), "code", text)


def test_a_value_that_is_too_long_for_a_url_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        seal(KEYS, "code", bytes(MAX_SEALED), NONCE)
    with pytest.raises(OpaqueTokenError):
        open_sealed(KEYS, "code", "A" * (MAX_SEALED + 1))


def test_length_of_a_sealed_value_is_limited_by_choice() -> None:
    payload = bytes(MAX_SEALED)
    with pytest.raises(ValueError, match=str(MAX_SEALED)):
        seal(KEYS, "code", payload, NONCE)
    text = seal(KEYS, "code", payload, NONCE, max_length=2 * MAX_SEALED)
    assert open_sealed(KEYS, "code", text, max_length=2 * MAX_SEALED) == payload
    with pytest.raises(OpaqueTokenError, match="too long"):
        open_sealed(KEYS, "code", text)

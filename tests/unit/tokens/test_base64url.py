from __future__ import annotations

import base64

import pytest
from hypothesis import example, given, strategies as st

from token_service.tokens.base64url import decode, encode

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=300))
def test_encode_is_the_standard_text_without_padding(data: bytes) -> None:
    assert encode(data) == base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert decode(encode(data).encode()) == data


@given(
    st.one_of(
        st.binary(max_size=12),
        st.text(alphabet=_ALPHABET.decode() + '=+/\n \\"', max_size=12).map(str.encode),
    )
)
@example(b"")
@example(b"A")
@example(b"AB")
@example(b"AA==")
@example(b"AA\n")
@example(b"\\/AA")
@example(b'"AAA')
def test_decode_accepts_only_canonical_text(text: bytes) -> None:
    try:
        data = decode(text)
    except ValueError:
        standard = text.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(text) % 4)
        readable = set(text) <= set(_ALPHABET) and len(text) % 4 != 1
        assert not readable or base64.urlsafe_b64encode(base64.b64decode(standard)).rstrip(b"=") != text
    else:
        assert encode(data).encode() == text


@pytest.mark.parametrize("position", range(8))
def test_decode_refuses_bytes_outside_the_alphabet_at_every_position(position: int) -> None:
    for byte in range(256):
        text = bytearray(b"AbCdEfGh")
        text[position] = byte
        if byte in _ALPHABET:
            assert encode(decode(bytes(text))).encode() == text
        else:
            with pytest.raises(ValueError, match="base64url"):
                decode(bytes(text))


@pytest.mark.parametrize("length", [2, 3])
def test_decode_refuses_nonzero_trailing_bits(length: int) -> None:
    good = {encode(bytes([a, b])[: length - 1])[-1] for a in range(256) for b in range(256)}
    for last in _ALPHABET:
        text = b"AAA"[: length - 1] + bytes([last])
        if chr(last) in good:
            decode(text)
        else:
            with pytest.raises(ValueError, match="canonical"):
                decode(text)

"""Strict base64url without padding (RFC 7515, section 2): each byte string has exactly one text."""

from __future__ import annotations

from binascii import b2a_base64
from typing import Final

import msgspec

_URL_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_INVALID: Final = 0xFF  # in no alphabet, and not UTF-8 either
_STANDARD_ALPHABET: Final = _URL_ALPHABET.replace(b"-_", b"+/")
_TO_STANDARD: Final = bytes(
    _STANDARD_ALPHABET[_URL_ALPHABET.index(byte)] if byte in _URL_ALPHABET else _INVALID
    for byte in range(256)
)

# The valid last characters, by the length of the text modulo four: the bits after the last byte are zero.
_LAST: Final = (frozenset(_URL_ALPHABET), frozenset(b""), frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))
_QUOTED: Final = (b'"%b"', b"", b'"%b=="', b'"%b="')

# msgspec decodes the base64 of a JSON string three times as fast as binascii does. Its input has only characters of
# the alphabet and padding, so no JSON escape is possible.
_decode_quoted = msgspec.json.Decoder(bytes).decode


def encode(data: bytes) -> str:
    """Return the base64url text of `data`, without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode(text: bytes) -> bytes:
    """Return the bytes of `text`.

    Raises `ValueError` for every text that is not canonical: padding, line breaks, characters of other alphabets and
    non-zero trailing bits are refused, so no two texts decode to the same bytes.
    """
    if not text:
        return b""
    remainder = len(text) & 3
    if text[-1] not in _LAST[remainder]:
        raise ValueError("not canonical base64url")
    try:
        return _decode_quoted(_QUOTED[remainder] % text.translate(_TO_STANDARD))
    except msgspec.DecodeError:
        raise ValueError("not base64url") from None

"""Base64url without padding (RFC 7515, section 2), strictly: one text for each byte string."""

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

# The characters that may come last, by what is left over beside whole groups of four: the bits beyond the
# last byte are zero.
_LAST: Final = (frozenset(_URL_ALPHABET), frozenset(b""), frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))
_QUOTED: Final = (b'"%b"', b"", b'"%b=="', b'"%b="')

# msgspec decodes the base64 of a JSON string three times as fast as binascii does. What reaches it is made of
# the alphabet and the padding alone, so there is nothing a JSON string could escape.
_decode_quoted = msgspec.json.Decoder(bytes).decode


def encode(data: bytes) -> str:
    """Text of `data`, without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode(text: bytes) -> bytes:
    """Bytes of `text`.

    Raises `ValueError` for anything but the canonical text: padding, line breaks, characters of other
    alphabets and non-zero trailing bits are refused, so that no two texts mean the same bytes.
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

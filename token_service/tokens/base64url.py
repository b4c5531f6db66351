"""Base64url without padding (RFC 7515, section 2), strictly: one text for each byte string."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/\xff\xff\xff")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", None, b"==", b"=")


def encode(data: bytes) -> str:
    """Text of `data`, without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode(text: bytes) -> bytes:
    """Bytes of `text`.

    Raises `ValueError` for anything but the canonical text: padding, line breaks, characters of other alphabets and
    non-zero trailing bits are refused, so that no two texts mean the same bytes.
    """
    remainder = len(text) & 3
    padding = _PADDING[remainder]
    if padding is None:
        raise ValueError("impossible length")
    standard = text.translate(_TO_STANDARD)
    try:
        data = a2b_base64(standard + padding, strict_mode=True)
    except Error as error:
        raise ValueError(str(error)) from None
    # a2b_base64 ignores the bits of the last character that make no byte.
    if remainder and b2a_base64(data[-(remainder - 1) :], newline=False)[:remainder] != standard[-remainder:]:
        raise ValueError("non-zero trailing bits")
    return data

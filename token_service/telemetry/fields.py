"""The values of fields in log lines.

A value is shown unchanged: a name chosen by a caller can't hide itself, another field or the rest of the line.
Invisible characters are escaped and the length is bounded. The one exception is a token or a client secret in the wrong
place, e.g. as the name of a subject: the line shows its SHA-256, which identifies it without revealing it.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode
from typing import Final

MAX_LENGTH: Final = 1024
"""Characters shown of a value. No value of an audit event is longer."""

_BARE: Final = re.compile(r"[!#-&(-+\--<>-Z^-~]+").fullmatch
"""Values in text that need no quotes: visible ASCII without quotes, comma, equals sign, brackets, backslash."""
_TOKEN: Final = re.compile(
    r"(?P<header>eyJ[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*)?"
    # A text of 43 characters is the id of a key. It is random and may begin like a token.
    r"|(?<![A-Za-z0-9])(?![\w-]{43}(?![\w.-]))(?:[rs]t_|tscs_|tspat_)[A-Za-z0-9_-]{24,}"
    r"|(?<![A-Za-z0-9])whsec_[A-Za-z0-9+/_-]{24,}=*",
    re.ASCII,
)
"""A signed or opaque token or a client secret, or the beginning of one."""
_MIN_HEADER: Final = 24
"""The shortest lone JWS header treated as the beginning of a token. Ids are random: they do not decode to ASCII."""
_INVISIBLE: Final = re.compile(
    # Invisible characters that `str.isprintable` accepts: fillers, joiners, variation selectors, a blank.
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
).search


def in_text(value: object) -> str:
    """Return a value for a line of text: a bare word, or its JSON, which is unambiguous."""
    if isinstance(value, list | tuple):
        return ",".join(map(in_text, value)) or '""'
    text = value if isinstance(value, str) else str(value)
    if not text:
        return '""'
    if _BARE(text) and len(text) <= MAX_LENGTH and not _may_hold_token(text):
        return text
    return _shown(text, quoted=True)


def in_json(value: object) -> object:
    """Return a value as a member of a JSON object."""
    if isinstance(value, str):
        if len(value) <= MAX_LENGTH and not _may_hold_token(value):
            return value
        return _shown(value, quoted=False)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [in_json(item) for item in value]
    return in_json(str(value))


def escape(text: str) -> str:
    """Return a text with its control and invisible characters escaped as in JSON."""
    if text.isprintable() and (text.isascii() or not _INVISIBLE(text)):
        return text
    return "".join(
        character
        if character.isprintable() and not _INVISIBLE(character)
        else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")
        for character in text
    )


def without_tokens(text: str) -> str:
    """Return a text with each token in it replaced by its SHA-256."""
    return _TOKEN.sub(_replacement, text) if _may_hold_token(text) else text


def _may_hold_token(text: str) -> bool:
    return "eyJ" in text or (
        "_" in text  # most texts have none, so most need two searches instead of six
        and ("rt_" in text or "st_" in text or "tscs_" in text or "tspat_" in text or "whsec_" in text)
    )


def _shown(text: str, *, quoted: bool) -> str:
    text = without_tokens(text)
    omitted = len(text) - MAX_LENGTH
    text = text[:MAX_LENGTH]
    if quoted:
        text = escape(json.dumps(text, ensure_ascii=False))
    return text if omitted <= 0 else f"{text}[{omitted} more]"


def _replacement(match: re.Match[str]) -> str:
    text, header = match[0], match["header"]
    if header and not _is_header(header, cut=text == header):
        return text
    return f"[token sha256:{hashlib.sha256(text.encode()).hexdigest()}]"


def _is_header(text: str, *, cut: bool) -> bool:
    """Return whether a text is the header of a JWS or JWE (RFC 7515, section 4.1.1), or the beginning of a cut one."""
    decoded = urlsafe_b64decode(text[: len(text) // 4 * 4])
    if cut:
        return len(text) >= _MIN_HEADER and decoded.startswith(b'{"') and decoded.isascii()
    return b'"alg"' in decoded

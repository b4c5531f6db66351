"""Parser for the challenges of a `WWW-Authenticate` header (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SEPARATOR: Final = re.compile(r"[ \t,]*")
_SCHEME: Final = re.compile(rf"({_TOKEN})(?=[ ,]|\Z)")
_PARAMETER: Final = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")(?=[ \t]*(?:,|\Z))', re.DOTALL
)
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|\Z))")
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """One challenge; the scheme and the names of the parameters are in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Parse the challenges of a header, or of several headers joined by commas.

    A malformed header yields the challenges before the fault. A repeated parameter keeps its first value.
    """
    found: list[Challenge] = []
    at = 0
    while (at := _end(_SEPARATOR.match(header, at), at)) < len(header):
        parameter = _PARAMETER.match(header, at) if found else None
        if parameter is not None:
            name, token, quoted = parameter.groups()
            value = token if token is not None else _QUOTED_PAIR.sub(r"\1", quoted)
            found[-1].parameters.setdefault(name.lower(), value)
            at = parameter.end()
            continue
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        found.append(Challenge(scheme[1].lower(), {}))
        at = scheme.end()
        if header[at : at + 1] == " ":
            at = len(header) - len(header[at:].lstrip(" "))
            if _PARAMETER.match(header, at) is None:
                at = _end(_TOKEN68.match(header, at), at)
    return found


def _end(match: re.Match[str] | None, otherwise: int) -> int:
    return otherwise if match is None else match.end()

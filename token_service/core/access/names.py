"""The names a caller can have: SPIFFE IDs and DNS names, and the patterns a policy file may use for them.

A name is compared only if its spelling is beyond doubt: what breaks the syntax is refused before it could be
taken for another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

_MAX_SPIFFE_ID: Final = 2048
_MAX_DNS_NAME: Final = 253
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?P<path>(?:/[A-Za-z0-9._-]+)*)", re.ASCII)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_ANY_BELOW: Final = "/*"

_T = TypeVar("_T")


def is_spiffe_id(text: str) -> bool:
    """Whether this is a SPIFFE ID (SPIFFE-ID, section 2).

    A trust domain of lower-case letters, digits, dots, dashes and underscores; path segments of letters,
    digits, dots, dashes and underscores, none of them empty, `.` or `..`. So no user, port, query, fragment,
    percent-encoding or slash at the end.
    """
    match = _SPIFFE_ID.fullmatch(text)
    if match is None or len(text) > _MAX_SPIFFE_ID:
        return False
    return not {".", ".."}.intersection(match["path"].split("/"))


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name in lower case: labels of letters, digits and inner dashes (RFC 5280, section
    4.2.1.6; RFC 9525, section 6.3). Neither a wildcard nor an address.
    """
    if len(text) > _MAX_DNS_NAME or _DNS_NAME.fullmatch(text) is None:
        return False
    return not text.rpartition(".")[
        2
    ].isdigit()  # four numbers are an address, and no top-level domain is one


def problem_of_pattern(pattern: str) -> str | None:
    """Why a policy file can't name callers so; None: it can.

    A pattern is a SPIFFE ID, a SPIFFE ID followed by `/*` for every ID below it, or a DNS name.
    """
    prefix = pattern.removesuffix(_ANY_BELOW)
    if prefix.startswith("spiffe:") or pattern.startswith("spiffe:"):
        if is_spiffe_id(prefix):
            return None
        return (
            "is neither a SPIFFE ID (spiffe://trust-domain/path) nor one followed by /* for every ID below it"
        )
    if "*" in pattern:
        return 'has a wildcard, which only a SPIFFE ID may end in ("spiffe://trust-domain/path/*")'
    return None if is_dns_name(pattern) else "is neither a SPIFFE ID nor a DNS name in lower case"


def matches(callers: Mapping[str, _T], name: str) -> list[_T]:
    """What `callers`, by pattern, has for a valid name: for the exact one, else for all patterns above it."""
    exact = callers.get(name)
    if exact is not None:
        return [exact]
    if not name.startswith("spiffe://"):
        return []
    return [
        value
        for pattern, value in callers.items()
        if pattern.endswith(_ANY_BELOW) and name.startswith(pattern[:-1])
    ]

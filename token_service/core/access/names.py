"""Names of callers: SPIFFE IDs and DNS names, and the patterns for them in a policy file.

A name is compared only if its syntax is valid, so a malformed name can't be mistaken for another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from token_service.core.clients.uris import is_dns_name

_MAX_SPIFFE_ID: Final = 2048
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?P<path>(?:/[A-Za-z0-9._-]+)*)", re.ASCII)
_WORKLOAD = re.compile(r"workload:[a-z0-9-]{1,64}:[\x21-\x7e]{1,512}", re.ASCII)
_ANY_BELOW: Final = "/*"

_T = TypeVar("_T")


def is_spiffe_id(text: str) -> bool:
    """Tell whether a text is a SPIFFE ID (SPIFFE-ID, section 2).

    The trust domain has lower-case letters, digits, dots, dashes and underscores. Path segments have letters,
    digits, dots, dashes and underscores; none is empty, `.` or `..`. This excludes a user, port, query,
    fragment, percent-encoding and trailing slash.
    """
    match = _SPIFFE_ID.fullmatch(text)
    if match is None or len(text) > _MAX_SPIFFE_ID:
        return False
    return not {".", ".."}.intersection(match["path"].split("/"))


def problem_of_pattern(pattern: str) -> str | None:
    """Return why a pattern for callers is invalid; None: it is valid.

    A pattern is a SPIFFE ID, a SPIFFE ID followed by `/*` for every ID below it, a DNS name, or the name
    `workload:<issuer>:<sub>` of a workload.
    """
    if pattern.startswith("workload:"):
        return None if _WORKLOAD.fullmatch(pattern) else "is not workload:<issuer>:<sub>"
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
    """Return the value of `callers` for the exact name, or else the values of all patterns that match a valid name."""
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

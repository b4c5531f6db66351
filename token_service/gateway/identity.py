"""The headers that tell the application behind the proxy whose token it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from token_service.tokens.base64url import encode
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.strict_json import encode as encode_json

CLAIMS: Final = "x-token-claims"
NAMES: Final = ("x-token-subject", "x-token-client-id", "x-token-scope", "x-token-session-id", CLAIMS)
"""Headers that are set or removed in every request that passes."""
_MISLEADING: Final = frozenset(NAMES)
_SAFE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def header_value(text: str) -> str:
    """Return a text as the value of a header, which `unquote` reads back.

    Percent-encodes `%`, control characters, characters outside ASCII, and spaces at both ends.
    """
    if text.isascii() and text.isprintable() and "%" not in text and text.strip(" ") == text:
        return text
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(inner)
    return "%20" * before + quote(inner, _SAFE, "utf-8", "replace") + "%20" * after


def is_misleading(names: Iterable[str]) -> bool:
    """Return whether one of the names is one of `NAMES` to an application that reads underscores as hyphens, as CGI does."""
    return any("_" in name and name.lower().replace("_", "-") in _MISLEADING for name in names)


class Identity:
    """Makes the headers of claims."""

    def __init__(self, *, with_claims: bool = False, claims_max_bytes: int = 8192) -> None:
        self._with_claims = with_claims
        self._most = claims_max_bytes
        self.claims_omitted = 0
        """Number of claims that were longer than `claims_max_bytes`."""

    def headers(self, claims: VerifiedClaims | None) -> dict[str, str]:
        """Return a value for each of `NAMES`. An empty one means that the header must be removed."""
        if claims is None:
            return dict.fromkeys(NAMES, "")
        scope = claims.payload.get("scope", "")
        values = {
            "x-token-subject": header_value(claims.subject),
            "x-token-client-id": header_value(claims.client_id),
            "x-token-scope": header_value(scope if isinstance(scope, str) else ""),
            "x-token-session-id": header_value(claims.session_id),
            CLAIMS: "",
        }
        if self._with_claims:
            encoded = encode(encode_json(claims.payload))
            if len(encoded) <= self._most:
                values[CLAIMS] = encoded
            else:
                self.claims_omitted += 1
        return values

"""Documents of issuers: key sets (RFC 7517), SPIFFE bundles, OpenID Connect discovery, and how long they may be kept."""

from __future__ import annotations

import re
from typing import Any, Final

from token_service.fetching.failure import FetchError
from token_service.tokens import strict_json
from token_service.tokens.key_set import KeySet

MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100

SHORTEST_LIFETIME: Final = 60.0
LONGEST_LIFETIME: Final = 3600.0
DEFAULT_LIFETIME: Final = 600.0
"""Seconds for which a key set counts as current: the bounds, and the value without Cache-Control."""

_MAX_AGE: Final = re.compile(r'max-age="?([0-9]{1,10})"?')
_BUNDLE_MEMBERS: Final = frozenset({"spiffe_sequence", "spiffe_refresh_hint"})
_SVID_USES: Final = frozenset({"jwt-svid", "x509-svid"})


def parse_key_set(document: bytes, revision: int) -> KeySet:
    """Return the usable keys of a key set or of a SPIFFE bundle.

    Of a bundle, only the keys with the use `jwt-svid` count (SPIFFE Trust Domain and Bundle, section 4.2.2). Raises
    `FetchError` for another document, for more than `MAX_KEYS` keys, and if no key is usable.
    """
    content = _object(document, "the key set")
    jwks = content.get("keys")
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise FetchError("the key set has no list of keys")
    if len(jwks) > MAX_KEYS:
        raise FetchError(f"the key set has more than {MAX_KEYS} keys")
    if _BUNDLE_MEMBERS & content.keys() or any(_is_svid_key(jwk) for jwk in jwks):
        jwks = [_without_use(jwk) for jwk in jwks if jwk.get("use") == "jwt-svid"]
    keys = KeySet.from_jwks(jwks, revision)
    if not len(keys):
        why = f": {keys.refused[0].why}" if keys.refused else ""
        raise FetchError(f"the key set has no usable key{why}")
    return keys


def jwks_uri_of(document: bytes, issuer: str) -> str:
    """Return the `jwks_uri` of a discovery document (OpenID Connect Discovery 1.0, section 4.3).

    Raises `FetchError` unless the document names exactly this issuer.
    """
    content = _object(document, "the discovery document")
    if content.get("issuer") != issuer:
        raise FetchError("the discovery document is of another issuer")
    url = content.get("jwks_uri")
    if not isinstance(url, str):
        raise FetchError("the discovery document has no jwks_uri")
    return url


def lifetime_of(cache_control: str, age: str = "") -> float:
    """Return the seconds for which an answer may be kept, by its headers Cache-Control and Age (RFC 9111)."""
    directives = [directive.strip().lower() for directive in cache_control.split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST_LIFETIME
    max_age = next(filter(None, map(_MAX_AGE.fullmatch, directives)), None)
    if max_age is None:
        return DEFAULT_LIFETIME
    spent = int(age) if re.fullmatch("[0-9]{1,10}", age) else 0
    return min(max(float(max_age[1]) - spent, SHORTEST_LIFETIME), LONGEST_LIFETIME)


def _object(document: bytes, name: str) -> dict[str, Any]:
    try:
        return strict_json.decode_object(document)
    except ValueError:  # its text may repeat parts of the document
        raise FetchError(f"{name} is not a JSON object without duplicate names") from None


def _is_svid_key(jwk: dict[str, Any]) -> bool:
    use = jwk.get("use")
    return isinstance(use, str) and use in _SVID_USES


def _without_use(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name != "use"}

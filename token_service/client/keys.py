"""Where key sets come from besides the stream: HTTP (RFC 7517) and GetKeySet."""

from __future__ import annotations

from typing import Any, Final

from token_service.tokens import strict_json

MAX_JWKS_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 200


def parse_jwks(data: bytes) -> list[dict[str, Any]]:
    """The keys of a JWK set.

    Raises `ValueError` for anything else, one that is too large and one without keys.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("the key set is too large")
    keys = strict_json.decode_object(data).get("keys")
    if not isinstance(keys, list) or not keys or len(keys) > MAX_KEYS:
        raise ValueError("not a key set, or an empty or too large one")
    return [key for key in keys if isinstance(key, dict)]


def fetch_over_http(url: str, timeout: float) -> bytes:
    """GET by the standard library.

    Raises `OSError` or `ValueError`. Follows no redirect: whoever answers for the issuer's URL may not
    appoint another to answer for it.
    """
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Refuse(HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    if not url.startswith(("https://", "http://")):
        raise ValueError("not an HTTP URL")
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  # checked above
    with build_opener(Refuse).open(request, timeout=timeout) as response:
        data = response.read(MAX_JWKS_BYTES + 1)
    if not isinstance(data, bytes):
        raise ValueError("no body")
    return data

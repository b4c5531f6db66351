"""Custom claims: the caller's additions to a token, within limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from token_service.core.limits import MAX_CUSTOM_CLAIM_DEPTH, MAX_CUSTOM_CLAIMS
from token_service.errors import CustomClaimNotAllowedError, CustomClaimsTooLargeError, ReservedClaimError
from token_service.tokens import strict_json
from token_service.tokens.claims import RESERVED_CLAIMS

_SECRET_NAMES: Final = frozenset(
    {
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "clientsecret",
        "privatekey",
        "apikey",
        "accesskey",
        "secretkey",
        "creditcard",
        "cardnumber",
        "cvv",
        "ssn",
        "pin",
    }
)
"""Names of secrets, in lower case without separators. The claims of a JWT are readable."""


def forbidden_claims(names: Iterable[str]) -> list[str]:
    """Return the names that no request may set: claims of the token service and names of secrets."""
    return [name for name in names if name in RESERVED_CLAIMS or _names_a_secret(name)]


def _names_a_secret(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "").replace(".", "") in _SECRET_NAMES


def check_custom_claims(claims: Mapping[str, Any], max_bytes: int, allowed: tuple[str, ...] = ()) -> None:
    """Check claims that a request wants in a token. `allowed`: their names; empty: any.

    Raises `ReservedClaimError`, `CustomClaimNotAllowedError` and `CustomClaimsTooLargeError`.
    """
    _check("custom_claims", claims, max_bytes, allowed)


def check_identity_claims(claims: Mapping[str, Any], max_bytes: int) -> None:
    """Check claims about a subject for the userinfo endpoint. No token has them, so no list of a policy applies.

    Raises the errors of `check_custom_claims`.
    """
    _check("identity_claims", claims, max_bytes, ())


def _check(field: str, claims: Mapping[str, Any], max_bytes: int, allowed: tuple[str, ...]) -> None:
    if not claims:
        return
    reserved = RESERVED_CLAIMS.intersection(claims)
    if reserved:
        name = min(reserved)
        raise ReservedClaimError(f"{field}: {name} is set by the service", metadata={"claim": name})
    for name in claims:
        if _names_a_secret(name):
            raise CustomClaimNotAllowedError(
                f"{field}: {name!r} names a secret, and the claims of a token are readable",
                metadata={"claim": name},
            )
        if allowed and name not in allowed:
            raise CustomClaimNotAllowedError(
                f"{field}: the policy of this client does not allow {name!r}; it allows {', '.join(allowed)}",
                metadata={"claim": name},
            )
    if len(claims) > MAX_CUSTOM_CLAIMS:
        raise CustomClaimsTooLargeError(f"{field}: more than {MAX_CUSTOM_CLAIMS} claims")
    try:
        strict_json.require_depth(claims, MAX_CUSTOM_CLAIM_DEPTH)
    except ValueError:
        raise CustomClaimsTooLargeError(f"{field}: nested deeper than {MAX_CUSTOM_CLAIM_DEPTH}") from None
    size = len(strict_json.encode(claims))
    if size > max_bytes:
        raise CustomClaimsTooLargeError(f"{field}: {size} bytes of JSON where {max_bytes} are allowed")

"""Custom claims: the caller's additions to a token, within limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_service.core.limits import MAX_CUSTOM_CLAIM_DEPTH, MAX_CUSTOM_CLAIMS
from token_service.errors import CustomClaimsTooLargeError, ReservedClaimError
from token_service.tokens import strict_json
from token_service.tokens.claims import RESERVED_CLAIMS


def check_custom_claims(claims: Mapping[str, Any], max_bytes: int) -> None:
    """Raise `ReservedClaimError` or `CustomClaimsTooLargeError` for claims that must not go into a token."""
    if not claims:
        return
    reserved = RESERVED_CLAIMS.intersection(claims)
    if reserved:
        name = min(reserved)
        raise ReservedClaimError(f"custom_claims: {name} is set by the service", metadata={"claim": name})
    if len(claims) > MAX_CUSTOM_CLAIMS:
        raise CustomClaimsTooLargeError(f"custom_claims: more than {MAX_CUSTOM_CLAIMS} claims")
    try:
        strict_json.require_depth(claims, MAX_CUSTOM_CLAIM_DEPTH)
    except ValueError:
        raise CustomClaimsTooLargeError(
            f"custom_claims: nested deeper than {MAX_CUSTOM_CLAIM_DEPTH}"
        ) from None
    size = len(strict_json.encode(claims))
    if size > max_bytes:
        raise CustomClaimsTooLargeError(f"custom_claims: {size} bytes of JSON where {max_bytes} are allowed")

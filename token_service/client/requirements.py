"""The requirements that a route has on the token of its requests."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from token_service.errors import ConfigurationError, InvalidReason, InvalidTokenError
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.verifier import EARLY_LEEWAY

_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749, section 3.3
_GROUPINGS: Final = ("roles", "groups", "entitlements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The requirements of a route, besides a valid token.

    Each given requirement must be met. An empty one asks for nothing.
    """

    scopes: Collection[str] = ()
    """The token must have all of them (RFC 6750, section 3.1)."""
    audience: str | None = None
    """Replaces the audience of the validator."""
    issuer: str | None = None
    """The only issuer whose tokens are accepted; None: each issuer of the validator."""
    roles: Collection[str] = ()
    """The token must have at least one of them in `roles` (RFC 9068, section 2.2.3.1)."""
    groups: Collection[str] = ()
    """The token must have at least one of them in `groups`."""
    entitlements: Collection[str] = ()
    """The token must have at least one of them in `entitlements`."""
    acr_values: Collection[str] = ()
    """The `acr` of the token must be one of them (RFC 9470, section 3)."""
    max_age: float | None = None
    """The longest time since the authentication of the subject, in seconds (RFC 9470, section 3)."""

    def __post_init__(self) -> None:
        for name in ("scopes", *_GROUPINGS, "acr_values"):
            values = getattr(self, name)
            if isinstance(values, str):
                raise ConfigurationError(f"{name} must be a collection of texts, not one text")
            if any(not isinstance(value, str) or not value for value in values):
                raise ConfigurationError(f"{name} must be a collection of texts that are not empty")
        for scope in (*self.scopes, *self.acr_values):
            if _SCOPE.fullmatch(scope) is None:
                raise ConfigurationError(
                    f"{scope!r} has characters that a scope or an acr value may not have"
                )
        if self.max_age is not None and not 0 <= self.max_age <= 10 * 365 * 86400:
            raise ConfigurationError(
                f"max_age is {self.max_age}; it must be between 0 and ten years, in seconds"
            )
        for name in ("scopes", *_GROUPINGS):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        object.__setattr__(
            self, "acr_values", tuple(self.acr_values)
        )  # by preference, as the challenge names them

    def check(self, claims: VerifiedClaims, now: float) -> None:
        """Check what the validator does not check: issuer, roles, groups, entitlements, `acr` and age.

        `now` is in seconds since the Unix epoch. Raises `InvalidTokenError` with WRONG_ISSUER, MISSING_ROLE or
        INSUFFICIENT_AUTHENTICATION.
        """
        if self.issuer is not None and claims.issuer != self.issuer:
            raise InvalidTokenError(InvalidReason.WRONG_ISSUER, "the token is from another issuer")
        for name in _GROUPINGS:
            needed = getattr(self, name)
            if needed and needed.isdisjoint(_texts(claims.payload.get(name))):
                raise InvalidTokenError(
                    InvalidReason.MISSING_ROLE, f"the token has none of the required {name}"
                )
        if self.acr_values or self.max_age is not None:
            self._check_authentication(claims, now)

    def _check_authentication(self, claims: VerifiedClaims, now: float) -> None:
        context = claims.auth_context
        if self.acr_values and (context is None or context.acr not in self.acr_values):
            raise InvalidTokenError(
                InvalidReason.INSUFFICIENT_AUTHENTICATION, "a stronger authentication of the user is required"
            )
        if self.max_age is not None:
            auth_time = context.auth_time if context is not None else None
            if auth_time is None or not now - self.max_age <= auth_time <= now + EARLY_LEEWAY:
                raise InvalidTokenError(
                    InvalidReason.INSUFFICIENT_AUTHENTICATION,
                    "a more recent authentication of the user is required",
                )


def _texts(value: Any) -> frozenset[str]:
    """Return the texts of a claim: an array, or one text."""
    if isinstance(value, str):
        return frozenset({value})
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


NOTHING_REQUIRED: Final = Requirements()

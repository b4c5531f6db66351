"""The port to the systems that authenticate users. This service has no passwords and no pages for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from token_service.core.login.requests import AuthorizationRequest
from token_service.tokens.claims import AuthContext


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A login that has begun. The browser carries it, sealed, in a cookie. Times are NumericDates."""

    id: str
    """A random name, which is also the `state` that the upstream returns."""
    request: AuthorizationRequest
    upstream: str
    secret: str
    """A random value of this login, from which an upstream derives its nonce and its code verifier."""
    expire_time: float
    user_code: str = ""
    """The user code of the device that the login is for; empty: the login answers an authorization request."""


class Authenticated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user that an upstream has authenticated."""

    subject: str
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    """Claims for access and ID tokens, such as `roles`."""


class Upstream(Protocol):
    """One system that authenticates users."""

    async def login_url(self, login: Login) -> str:
        """Return the URL to send the browser to.

        Raises `StoreUnavailableError` or `ForeignKeysUnavailableError` if the upstream can't be reached.
        """
        ...

    async def complete(self, login: Login, parameters: Mapping[str, str]) -> Authenticated:
        """Return the user of a login that the browser has brought back, with the parameters of its URL.

        Raises `ServiceError`: `AccessDeniedError` if the user or the upstream refused, `LoginRequiredError` if the
        request allowed no interaction, `GrantInvalidError` if the answer of the upstream is not acceptable.
        """
        ...

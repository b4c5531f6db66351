"""The port to the systems that authenticate users. This service has no passwords and no pages for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from token_service.core.login.requests import AuthorizationRequest
from token_service.core.sessions.session import Session
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
    identity_claims: Mapping[str, Any] = {}
    """Claims about the subject for the userinfo endpoint, such as `email`."""
    upstream_session: str = ""
    """The `sid` of the session at the upstream. Empty: it named none."""


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

    async def logout_url(self, session: Session, return_to: str, state: str) -> str | None:
        """Return the URL at which the browser logs out of the upstream; None: the upstream has none.

        The upstream sends the browser to `return_to` with the parameter `state`. Both are of this service, and
        `return_to` is the same at each logout, so that it can be registered at the upstream. The session has ended
        already, so this raises no error: an upstream that can't be reached has no URL.
        """
        ...

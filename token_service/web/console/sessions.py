"""The sessions of the console: tokens of a session of this service, sealed in a cookie that scripts can't read.

Each request judges the access token by the keys and the revocations that this node knows, as a validator does. An
expired one is renewed with the refresh token. So a session ends at once when it, its subject or its client is revoked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.keys.sealer import Sealer
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import (
    ClientDisabledError,
    ClientNotFoundError,
    InvalidReason,
    InvalidRequestError,
    PolicyViolationError,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    RiskRefusedError,
    ServiceError,
    SessionIdleError,
    SessionRevokedError,
)
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueTokenError
from token_service.web.console.access import LoginNeededError
from token_service.web.console.client import ConsoleClient
from token_service.web.oauth.requests import origin_of

MAX_AGE: Final = 12 * 3600.0
"""Seconds from a login to its end."""
MAX_COOKIE: Final = 3800
"""Characters of the cookie. Browsers keep cookies of at least 4096 bytes (RFC 6265, section 6.1)."""
MAX_RENEWALS: Final = 1000
"""Renewals whose tokens are kept for other requests with the same cookie."""
_SHARED_FOR: Final = 60.0
"""Seconds."""
_ENDED: Final = (
    ClientDisabledError,
    ClientNotFoundError,
    PolicyViolationError,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    RiskRefusedError,
    SessionIdleError,
    SessionRevokedError,
)
"""Errors of a renewal after which only a new login helps."""


class StoredSession(msgspec.Struct, frozen=True):
    """The content of the cookie. `login_time` is in seconds since the Unix epoch."""

    access_token: str
    refresh_token: str
    login_time: float

    def __repr__(self) -> str:
        return f"<StoredSession login_time={self.login_time}>"


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that is live now. `renewed`: its tokens are new, so the cookie must be set."""

    stored: StoredSession
    claims: VerifiedClaims
    renewed: bool


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(StoredSession).decode


class ConsoleSessions:
    """Keeps sessions in the cookies of browsers."""

    def __init__(
        self, client: ConsoleClient, sealer: Sealer, introspector: Introspector, clock: Clock, *, issuer: str
    ) -> None:
        self._client = client
        self._sealer = sealer
        self._introspector = introspector
        self._clock = clock
        self._issuer = issuer
        self._is_secure = issuer.startswith("https://")
        self._name = "__Host-console" if self._is_secure else "console"
        self._renewals: OrderedDict[bytes, tuple[float, asyncio.Task[IssuedTokens]]] = OrderedDict()

    async def begin(self, tokens: IssuedTokens) -> StoredSession:
        """Return the session of a login. Raises `LoginNeededError` if its access token is not for the console."""
        stored = StoredSession(tokens.access_token, tokens.refresh_token, self._clock.now())
        await self._claims(stored)
        return stored

    def is_known(self, request: Request) -> bool:
        """Tell whether a request has a cookie of the console."""
        return self._name in request.cookies

    async def find(self, request: Request) -> LiveSession:
        """Return the session of a request.

        Raises `LoginNeededError`, and errors after which the request can be tried again: `ReplicaStaleError`,
        `KeysStaleError`, `StoreUnavailableError`, `OverloadedError`, `RateLimitedError`, `SigningUnavailableError`.
        """
        sealed = request.cookies.get(self._name, "")
        if not sealed:
            raise LoginNeededError("There is no login.")
        try:
            stored = _decode(await self._sealer.open(sealed))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise LoginNeededError("The login is not one of this service.") from None
        if self._clock.now() >= stored.login_time + MAX_AGE:
            raise LoginNeededError("A login lasts for 12 hours.")
        claims = await self._claims_unless_expired(stored)
        if claims is not None:
            return LiveSession(stored, claims, renewed=False)
        tokens = await self._renew(stored.refresh_token, request)
        stored = StoredSession(tokens.access_token, tokens.refresh_token, stored.login_time)
        return LiveSession(stored, await self._claims(stored), renewed=True)

    async def end(self, request: Request) -> None:
        """Revoke the session of a request, if it has one."""
        try:
            stored = _decode(await self._sealer.open(request.cookies.get(self._name, "")))
        except (OpaqueTokenError, msgspec.MsgspecError):
            return
        await self._client.revoke(stored.refresh_token)

    def set(self, response: Response, stored: StoredSession) -> None:
        """Set the cookie of a session. Raises `InvalidRequestError` if the browser might not keep it."""
        content = _encode(stored)
        sealed = self._sealer.seal(content) if len(content) < MAX_COOKIE else ""
        if not 0 < len(sealed) <= MAX_COOKIE:
            raise InvalidRequestError.of(
                "session", "has too many claims for a cookie; let the upstream give fewer groups and roles"
            )
        left = int(stored.login_time + MAX_AGE - self._clock.now())
        # Strict: a page of another site can't make the browser send it, not even with a link.
        response.set_cookie(
            self._name,
            sealed,
            max_age=left,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="strict",
        )

    def forget(self, response: Response) -> None:
        """Delete the cookie."""
        response.delete_cookie(self._name, path="/", secure=self._is_secure, httponly=True, samesite="strict")

    async def _claims_unless_expired(self, stored: StoredSession) -> VerifiedClaims | None:
        query = TokenQuery(stored.access_token, audience=self._issuer, kind=TokenKind.ACCESS)
        answer = await self._introspector.validate(Caller.system(), query)
        if answer.reason is InvalidReason.EXPIRED:
            return None
        claims = answer.claims
        if answer.reason is InvalidReason.REVOKED:
            raise LoginNeededError("The login was revoked.")
        if not isinstance(claims, VerifiedClaims) or claims.client_id != self._client.client_id:
            why = "" if answer.reason is None else f": {answer.reason.value}"
            raise LoginNeededError(f"The access token of the login is not valid for the console{why}.")
        return claims

    async def _claims(self, stored: StoredSession) -> VerifiedClaims:
        claims = await self._claims_unless_expired(stored)
        if claims is None:
            raise LoginNeededError("The access token of the login has expired.")
        return claims

    async def _renew(self, refresh_token: str, request: Request) -> IssuedTokens:
        """Renew the tokens of a session, once for all requests of a browser that come with the same cookie.

        Without this, a tab that was late with the old cookie would count as a stolen refresh token.
        """
        now, key = self._clock.monotonic(), hashlib.sha256(refresh_token.encode()).digest()
        while self._renewals:
            oldest, (began, _) = next(iter(self._renewals.items()))
            if now - began < _SHARED_FOR and len(self._renewals) < MAX_RENEWALS:
                break
            del self._renewals[oldest]
        if key not in self._renewals:
            work = self._client.refresh(refresh_token, origin_of(request))
            self._renewals[key] = now, asyncio.create_task(work, name="console-renewal")
        task = self._renewals[key][1]
        try:
            return await asyncio.shield(
                task
            )  # a request that ends early must not end the renewal of the others
        except _ENDED as error:
            raise LoginNeededError(f"The session has ended: {error.message}.") from None
        except ServiceError:
            self._renewals.pop(key, None)  # the next request tries again
            raise

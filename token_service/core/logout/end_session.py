"""Logouts that clients ask for through the browser (OpenID Connect RP-Initiated Logout 1.0).

Only an ID token of this service proves that a client asks. Without it nothing is revoked, so that no other site can log a
user out (section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from token_service.clock import Clock
from token_service.core.clients.client import ClientState
from token_service.core.clients.lookup import ClientLookup
from token_service.core.events.event import Actor
from token_service.core.keys.sealer import Sealer
from token_service.core.login.requests import MAX_STATE
from token_service.core.login.upstream import Upstream
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import SessionStore
from token_service.core.validation.id_token_hints import IdTokenHints
from token_service.errors import InvalidRequestError
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.opaque_token import OpaqueTokenError
from token_service.tokens.revocation import RevocationReason, RevocationTarget

RETURN_TTL: Final = 600.0
"""Seconds that an upstream has for its part of a logout."""


class LogoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a logout request, as sent. Empty: not sent."""

    id_token_hint: str = ""
    client_id: str = ""
    post_logout_redirect_uri: str = ""
    state: str = ""

    def __repr__(self) -> str:
        return f"<LogoutRequest client_id={self.client_id!r}>"


class LogoutOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a logout request."""

    logged_out: bool
    """Whether the request proved its client, so that the session has ended."""
    redirect_to: str = ""
    """The URL to send the browser to. Empty: a page tells the outcome."""


class _Return(msgspec.Struct, frozen=True):
    """The way back to the client, through the upstream."""

    redirect_to: str
    expire_time: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Return).decode


class EndSession:
    """Ends the session that an ID token names."""

    def __init__(
        self,
        id_tokens: IdTokenHints,
        clients: ClientLookup,
        sessions: SessionStore,
        revoker: Revoker,
        returns: Sealer,
        upstreams: Callable[[], Mapping[str, Upstream]],
        clock: Clock,
    ) -> None:
        self._id_tokens = id_tokens
        self._clients = clients
        self._sessions = sessions
        self._revoker = revoker
        self._returns = returns
        self._upstreams = upstreams
        self._clock = clock

    async def end(self, request: LogoutRequest, return_to: str) -> LogoutOutcome:
        """End the session of the ID token, durably, and return where the browser goes then.

        `return_to` is the URL of `complete`, for upstreams. A hint that can't be verified counts as none: its key may be
        gone. The browser goes to a URI of the client only with a hint and only if the URI is registered for it.
        Raises `InvalidRequestError`, with nothing revoked, if `client_id` is not the client of the hint, and
        `StoreUnavailableError`.
        """
        hint = await self._id_tokens.read(request.id_token_hint)
        if hint is None or hint.client_id not in hint.audience:
            return LogoutOutcome(logged_out=False)
        if request.client_id and request.client_id != hint.client_id:
            raise InvalidRequestError.of("client_id", "is not the client of the ID token")
        session = await self._session(hint)
        if session is not None and session.revoke_time is None:
            await self._revoke(hint, session)
        target = self._target(hint.client_id, request)
        if session is not None and (upstream := self._upstreams().get(session.upstream)) is not None:
            back = _Return(target, self._clock.now() + RETURN_TTL)
            url = await upstream.logout_url(session, return_to, self._returns.seal(_encode(back)))
            if url is not None:
                return LogoutOutcome(logged_out=True, redirect_to=url)
        return LogoutOutcome(logged_out=True, redirect_to=target)

    async def complete(self, state: str) -> LogoutOutcome:
        """Return where the browser goes after the logout of an upstream, with the `state` that the upstream was given.

        Raises `KeysStaleError`, `StoreUnavailableError`.
        """
        try:
            back = _decode(await self._returns.open(state))
        except (OpaqueTokenError, msgspec.MsgspecError):
            return LogoutOutcome(logged_out=False)
        if back.expire_time <= self._clock.now():
            return LogoutOutcome(logged_out=True)
        return LogoutOutcome(logged_out=True, redirect_to=back.redirect_to)

    async def _revoke(self, hint: VerifiedClaims, session: Session) -> None:
        draft = draft_of(
            RevocationTarget.SESSION, str(session.id), self._clock.now(), reason=RevocationReason.LOGOUT
        )
        actor = Actor(
            "caller", hint.client_id, hint.client_id, on_behalf_of=session.subject, proof="id_token_hint"
        )
        await self._revoker.carry_out(draft, actor)

    def _target(self, client_id: str, request: LogoutRequest) -> str:
        """Return the URL of the client to send the browser to; empty: none that is registered."""
        client = self._clients.get(client_id)
        uri = request.post_logout_redirect_uri
        if client is None or client.state is not ClientState.ACTIVE:
            return ""
        if uri not in client.post_logout_redirect_uris:
            return ""
        if not request.state or len(request.state) > MAX_STATE:
            return uri
        return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'state': request.state})}"

    async def _session(self, hint: VerifiedClaims) -> Session | None:
        try:
            return await self._sessions.get(UUID(hint.session_id))
        except ValueError:
            return None

"""Logout: by the user (OpenID Connect RP-Initiated Logout 1.0), and by the provider (Back-Channel Logout 1.0)."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

from token_service.bff.config import BffConfig, ProviderLogout
from token_service.bff.cookies import Cookies
from token_service.bff.exchange import (
    BadRequestError,
    Receive,
    Response,
    Scope,
    form,
    header,
    json_response,
    redirect,
)
from token_service.bff.failures import ProviderUnavailableError
from token_service.bff.provider import OpenIdProvider
from token_service.bff.sessions import OpenedSession, Sessions, key_of
from token_service.clock import Clock
from token_service.errors import InvalidTokenError, StoreUnavailableError

logger = logging.getLogger(__name__)


class Logout:
    """The endpoints `logout` and `backchannel-logout`."""

    def __init__(
        self, config: BffConfig, provider: OpenIdProvider, sessions: Sessions, cookies: Cookies, clock: Clock
    ) -> None:
        self._config = config
        self._provider = provider
        self._sessions = sessions
        self._cookies = cookies
        self._clock = clock

    async def by_user(self, scope: Scope) -> Response:
        """End the session here, and at the provider as the configuration says.

        A script that accepts JSON gets the URL to navigate to, because it can't follow a redirect to the provider.
        Raises `StoreUnavailableError`; the user is then still logged in.
        """
        url = self._config.after_logout
        session_id = self._cookies.session_id(scope)
        if session_id is not None:
            key = key_of(session_id)
            opened = await self._sessions.load(key, self._clock.now())
            if await self._sessions.store.delete(key) and opened is not None:
                url = await self._end_at_provider(opened)
        deleted = self._cookies.delete_session()
        if "application/json" in (header(scope, b"accept") or ""):
            return json_response(200, {"location": url}, deleted)
        return redirect(url, deleted)

    async def by_provider(self, scope: Scope, receive: Receive) -> Response:
        """End the sessions that a logout token names. Every failure is a 400 (section 2.8)."""
        try:
            fields = await form(scope, receive)
            token = await self._provider.logout_token_claims(fields.get("logout_token", ""))
            count = await self._sessions.log_out(token, self._clock.now())
        except (BadRequestError, InvalidTokenError) as error:
            logger.warning("a back-channel logout was refused: %s", error)
            return _failed("invalid_request", str(error))
        except (ProviderUnavailableError, StoreUnavailableError) as error:
            logger.error("a back-channel logout failed: %s", error.message)  # noqa: TRY400  # expected in outages
            return _failed("temporarily_unavailable", "try again later")
        if count is None:
            logger.warning("a back-channel logout was refused: its token was used before")
            return _failed("invalid_request", "the logout token was used before")
        logger.info("a back-channel logout ended %d sessions", count)
        return Response(200)

    async def _end_at_provider(self, opened: OpenedSession) -> str:
        """Revoke the refresh token, and return the URL that the browser goes to."""
        try:
            metadata = await self._provider.metadata()
            if opened.content.refresh_token is not None:
                await self._provider.revoke(opened.content.refresh_token)
        except ProviderUnavailableError as error:
            logger.warning(
                "a logout did not reach the provider: %s; its tokens live until they expire", error.message
            )
            return self._config.after_logout
        if not metadata.end_session_endpoint or self._config.logout is ProviderLogout.REVOKE:
            return self._config.after_logout
        parameters = {
            "client_id": self._config.provider.client.client_id,
            "post_logout_redirect_uri": self._config.post_logout_redirect_uri,
        }
        if self._config.logout is ProviderLogout.PROVE:
            parameters["id_token_hint"] = opened.content.id_token
        separator = "&" if "?" in metadata.end_session_endpoint else "?"
        return f"{metadata.end_session_endpoint}{separator}{urlencode(parameters)}"


def _failed(error: str, description: str) -> Response:
    return json_response(400, {"error": error, "error_description": description})

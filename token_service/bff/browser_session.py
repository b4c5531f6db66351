"""The session as the application sees it, in `scope["state"]["session"]`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from token_service.bff.exchange import Scope
from token_service.bff.renewal import Renewal
from token_service.bff.sessions import OpenedSession, Sessions
from token_service.clock import Clock


class BrowserSession:
    """A user who is logged in, as of the begin of the request. It never shows a token in its `repr`."""

    def __init__(
        self,
        opened: OpenedSession,
        sessions: Sessions,
        renewal: Renewal,
        clock: Clock,
        origin: Mapping[str, str],
    ) -> None:
        """`origin`: headers about the browser of the request."""
        self._opened = opened
        self._origin = origin
        self._sessions = sessions
        self._renewal = renewal
        self._clock = clock

    @property
    def claims(self) -> Mapping[str, Any]:
        """All claims of the ID token, validated."""
        return MappingProxyType(self._opened.content.claims)

    @property
    def subject(self) -> str:
        """`sub`: the user at the provider."""
        return str(self._opened.content.claims["sub"])

    @property
    def expire_time(self) -> float:
        """When the session is over without a further request, in seconds since the epoch."""
        return self._opened.expire_time

    async def access_token(self) -> str:
        """Return an access token that is valid now, for a call to an API.

        In a request it is ready. A WebSocket that outlives it waits for a renewal. Raises `SessionEndedError`, and
        `ProviderUnavailableError` or `StoreUnavailableError` if the token has expired and can't be renewed now.
        """
        self._opened = await self._renewal.usable(self._opened, self._origin)
        return self._opened.content.access_token

    async def is_active(self) -> bool:
        """Return whether the session still exists. A WebSocket may outlive a logout.

        Raises `StoreUnavailableError`.
        """
        return await self._sessions.load(self._opened.stored.key, self._clock.now()) is not None

    def __repr__(self) -> str:
        return f"BrowserSession(subject={self.subject!r})"


def session_of(scope: Scope) -> BrowserSession | None:
    """Return the session of a request; None if the user is not logged in."""
    session = scope.get("state", {}).get("session")
    return session if isinstance(session, BrowserSession) else None

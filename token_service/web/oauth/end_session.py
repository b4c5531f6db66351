"""`/end_session` (OpenID Connect RP-Initiated Logout 1.0) and the way back from an upstream."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from token_service.core.logout.end_session import EndSession, LogoutOutcome, LogoutRequest
from token_service.web.oauth.discovery import LOGOUT_RETURN
from token_service.web.oauth.pages import BROWSER_HEADERS, Pages
from token_service.web.oauth.parameters import query_of, read_form


class EndSessionEndpoint:
    """The endpoint that browsers come to for a logout."""

    def __init__(self, use_case: EndSession, pages: Pages, *, issuer: str) -> None:
        self._use_case = use_case
        self._pages = pages
        self._return_to = f"{issuer.rstrip('/')}{LOGOUT_RETURN}"

    async def end(self, request: Request) -> Response:
        """End a session. Raises `ServiceError`, which a page shows."""
        parameters = await read_form(request) if request.method == "POST" else query_of(request)
        asked = LogoutRequest(
            id_token_hint=parameters.get("id_token_hint"),
            client_id=parameters.get("client_id"),
            post_logout_redirect_uri=parameters.get("post_logout_redirect_uri"),
            state=parameters.get("state"),
        )
        return self._answer(await self._use_case.end(asked, self._return_to))

    async def complete(self, request: Request) -> Response:
        """Send the browser that comes from an upstream back to the client. Raises `ServiceError`."""
        return self._answer(await self._use_case.complete(query_of(request).get("state")))

    def _answer(self, outcome: LogoutOutcome) -> Response:
        if outcome.redirect_to:
            return RedirectResponse(outcome.redirect_to, 303, BROWSER_HEADERS)
        return self._pages.logout(logged_out=outcome.logged_out)

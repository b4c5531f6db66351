"""`POST /device_authorization` and the page `/device` (RFC 8628, sections 3.1 and 3.3)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from math import ceil, floor
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.clock import Clock
from token_service.core.grants.device_codes import parse_user_code, shown_user_code
from token_service.core.login.device_use_cases import DeviceUseCases
from token_service.core.login.devices import TICKET_TTL
from token_service.core.login.upstream import Login
from token_service.errors import GrantInvalidError, InvalidRequestError, RateLimitedError, ServiceError
from token_service.web.oauth import discovery
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE
from token_service.web.oauth.login_cookies import MAX_COOKIE, LoginCookies
from token_service.web.oauth.pages import Pages
from token_service.web.oauth.parameters import query_of, read_form
from token_service.web.oauth.requests import grant_request
from token_service.web.peer import peer_of

_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_APPROVE: Final = "approve"
_DENY: Final = "deny"


class DeviceEndpoint:
    """The endpoint for devices, and the page for their users."""

    def __init__(
        self,
        use_cases: DeviceUseCases,
        callers: HttpCallers,
        pages: Pages,
        cookies: LoginCookies,
        clock: Clock,
        *,
        issuer: str,
    ) -> None:
        self._authorizations = use_cases.authorizations
        self._logins = use_cases.logins
        self._callers = callers
        self._pages = pages
        self._cookies = cookies
        self._clock = clock
        self._is_secure = issuer.startswith("https://")
        self._cookie = f"{'__Host-' if self._is_secure else ''}device"
        self._url = f"{issuer.rstrip('/')}{discovery.DEVICE}"
        self._path = f"{discovery.issuer_path(issuer)}{discovery.DEVICE}"

    async def authorize(self, request: Request) -> Response:
        """Answer the request of a device (RFC 8628, section 3.2). Raises `ServiceError`."""
        parameters = await read_form(request)
        caller = await self._callers.client(request, parameters)
        now = self._clock.now()
        begun = await self._authorizations.begin(caller, grant_request(request, parameters), now)
        body = {
            "device_code": begun.device_code,
            "user_code": begun.user_code,
            "verification_uri": self._url,
            "verification_uri_complete": f"{self._url}?user_code={begun.user_code}",
            "expires_in": floor(begun.expire_time - now),
            "interval": int(begun.interval),
        }
        return JSONResponse(body, headers=NO_STORE)

    async def show(self, request: Request) -> Response:
        """Show the form for the code. A code in the URL is filled in, but counts only when the form is sent."""
        code = parse_user_code(query_of(request).get("user_code"))
        return self._form(request, "" if code is None else shown_user_code(code))

    async def send(self, request: Request) -> Response:
        """Take a code or a decision. Raises `ServiceError`, which a page shows."""
        parameters = await read_form(request)
        ticket, decision = parameters.required("ticket"), parameters.get("decision")
        browser = request.cookies.get(self._cookie, "")
        now = self._clock.now()
        if not decision:
            return await self._enter(request, parameters.get("user_code"), ticket, browser, now)
        if decision not in {_APPROVE, _DENY}:
            raise InvalidRequestError.of("decision", f"must be {_APPROVE} or {_DENY}")
        try:
            await self._logins.decide(ticket, browser, now, approve=decision == _APPROVE)
        except GrantInvalidError:
            return self._form(request, problem="invalid")
        return self._pages.page("device_done.html", 200, approved=decision == _APPROVE)

    async def ask(self, request: Request, login: Login, parameters: Mapping[str, str]) -> Response:
        """Return the page that asks the user of a completed login about the device."""
        browser, is_new = self._browser(request)
        try:
            question = await self._logins.ask(login, parameters, browser, self._clock.now())
        except GrantInvalidError:
            return self._form(request, problem="login")
        except ServiceError as error:
            return self._pages.error(error, request)
        response = self._pages.page(
            "device_question.html",
            200,
            action=self._path,
            ticket=question.ticket,
            user_code=question.user_code,
            client_id=question.client.client_id,
            client_name=question.client.client_name,
            scopes=question.scopes,
        )
        return self._with_cookie(response, browser, is_new=is_new)

    async def _enter(self, request: Request, typed: str, ticket: str, browser: str, now: float) -> Response:
        try:
            login, sealed, url = await self._logins.enter(
                typed, ticket, browser, peer_of(request).address, now
            )
        except GrantInvalidError:
            return self._form(request, problem="invalid")
        except RateLimitedError as error:
            response = self._form(request, problem="limited", status=429)
            response.headers["Retry-After"] = str(max(1, ceil(error.retry_after or 1.0)))
            return response
        if len(sealed) > MAX_COOKIE:
            raise InvalidRequestError.of("scope", "is too long for the cookie of a login")
        # Not a redirection: browsers apply the `form-action` of the page to it, and to all that follow it elsewhere.
        response = self._pages.page("device_login.html", 200, url=url)
        self._cookies.add(request, response, login.id, sealed)
        return response

    def _form(
        self, request: Request, user_code: str = "", *, problem: str = "", status: int | None = None
    ) -> Response:
        browser, is_new = self._browser(request)
        response = self._pages.page(
            "device.html",
            status or (400 if problem else 200),
            action=self._path,
            ticket=self._logins.ticket(browser, self._clock.now()),
            user_code=user_code,
            problem=problem,
        )
        return self._with_cookie(response, browser, is_new=is_new)

    def _browser(self, request: Request) -> tuple[str, bool]:
        """Return the name of a browser, and whether it is new."""
        name = request.cookies.get(self._cookie, "")
        return (name, False) if _BROWSER.fullmatch(name) else (secrets.token_urlsafe(16), True)

    def _with_cookie(self, response: Response, browser: str, *, is_new: bool) -> Response:
        if is_new:
            values: dict[str, Any] = {"secure": self._is_secure, "httponly": True, "samesite": "lax"}
            response.set_cookie(self._cookie, browser, max_age=int(TICKET_TTL), path="/", **values)
        return response

"""The console: its pages behind the login, the checks of forms, and the responses for errors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from token_service.clock import Clock
from token_service.core.access.refusals import Refusals
from token_service.errors import ServiceError
from token_service.web.console.access import ConsoleAccess, LoginNeededError
from token_service.web.console.guard import FormTokens, require_same_origin
from token_service.web.console.page import Page
from token_service.web.console.rendering import CONSOLE_HEADERS, Views
from token_service.web.console.static_files import StaticFiles
from token_service.web.console.visit import Handler, Visit, is_part
from token_service.web.edge import HttpEdge
from token_service.web.oauth.parameters import MAX_BODY, query_of, read_form
from token_service.wire import HTTP_STATUS

PATH: Final = "/console"
LOGOUT: Final = "logout"
_VISIT: Final = "token_service.console.visit"
"""The key of the visit in the scope of its request."""


class Console:
    """The pages of the console."""

    def __init__(
        self,
        pages: Sequence[Page],
        access: ConsoleAccess,
        form_tokens: FormTokens,
        refusals: Refusals,
        clock: Clock,
        *,
        base: str = PATH,
    ) -> None:
        """`pages` in the order of the navigation. `base`: the path of the console."""
        self._pages = pages
        self._access = access
        self._form_tokens = form_tokens
        self._refusals = refusals
        self._clock = clock
        self._base = base
        self._static = StaticFiles(base)
        self.views: Final = Views(base, self._static, [(page.path, page.title) for page in pages])

    def routes(self, edge: HttpEdge) -> list[Route]:
        """Return the routes of the pages, of their parts and actions, of the static files and of the login."""
        routes = [*self._static.routes(edge), *self._access.routes(edge, self.views, self._refuse)]
        routes.append(
            edge.route(self.views.url(LOGOUT), None, self._log_out, methods=("POST",), refuse=self._refuse)
        )
        routes.append(edge.route(f"{self._base}/", None, self._without_slash))
        for page in self._pages:
            routes.append(self._route(edge, page, page.path, page.show))
            routes += [self._route(edge, page, page.sub(name), part) for name, part in page.parts.items()]
            routes += [
                self._route(edge, page, page.sub(name), action, is_action=True)
                for name, action in page.actions.items()
            ]
        return routes

    def _route(
        self, edge: HttpEdge, page: Page, path: str, handler: Handler, *, is_action: bool = False
    ) -> Route:
        async def call(request: Request) -> Response:
            return await self._call(request, page, handler, is_action=is_action)

        return edge.route(
            f"{self._base}/{path}" if path else self._base,
            None,
            call,
            methods=("POST",) if is_action else ("GET",),
            refuse=self._refuse,
        )

    async def _without_slash(self, request: Request) -> Response:
        return RedirectResponse(self._base, 308, CONSOLE_HEADERS)

    async def _call(self, request: Request, page: Page, handler: Handler, *, is_action: bool) -> Response:
        try:
            visit = await self._visit(request, page)
        except LoginNeededError as error:
            return self._log_in(request, error, is_action=is_action)
        operator = visit.operator
        try:
            if operator.refusal is not None:
                raise operator.refusal
            if is_action:
                visit = await self._with_form(visit, page.max_form)
            else:
                visit = replace(visit, query=query_of(request))
            request.scope[_VISIT] = visit
            response = await handler(visit)
        except ServiceError as error:
            self._refusals.note(operator.caller, f"console {request.url.path}", error)
            raise
        if operator.cookies is not None:
            operator.cookies(response)
        return response

    async def _visit(self, request: Request, page: Page) -> Visit:
        """Return the visit of an operator, without parameters. Raises the errors of `ConsoleAccess.identify`."""
        operator = await self._access.identify(request)
        visit = Visit(
            request=request,
            operator=operator,
            views=self.views,
            path=page.path,
            title=page.title,
            form_token=self._form_tokens.new(operator.session),
            now=self._clock.now(),
        )
        request.scope[_VISIT] = visit
        return visit

    async def _with_form(self, visit: Visit, most: int) -> Visit:
        """Return the visit with its form, which must be one of the console."""
        require_same_origin(visit.request, self._access.origin(visit.request))
        form = await read_form(visit.request, most)
        await self._form_tokens.check(visit.request, form, visit.operator.session)
        return replace(visit, form=form)

    async def _log_out(self, request: Request) -> Response:
        # Browsers leave the cookie out for a form of another site, which must not delete the login all the same.
        require_same_origin(request, self._access.origin(request))
        with contextlib.suppress(LoginNeededError):
            visit = await self._visit(request, self._pages[0])
            await self._with_form(visit, MAX_BODY)
        response = self.views.html("logged_out.html", visit=None)
        await self._access.log_out(request, response)
        return response

    def _log_in(self, request: Request, error: LoginNeededError, *, is_action: bool) -> Response:
        """Return the response to a request without a login: a way to log in, and to come back to the same page."""
        if not is_action and not is_part(request) and self._access.is_arriving(request):
            # A navigation that begins here brings the cookie along.
            return self.views.html("onward.html", visit=None, to=request.url.path + _query(request))
        where = self._base if is_action else _shown_page(request)
        url = f"{self._base}/login?return_to={quote(where, safe='')}"
        if is_action:
            # The form is lost: say so instead of a redirection that looks like success.
            template = "part_session_ended.html" if is_part(request) else "session_ended.html"
            return self.views.html(template, 401, reason=error.reason, login=url, visit=None)
        if is_part(request):
            return Response(status_code=401, headers={**CONSOLE_HEADERS, "HX-Redirect": url})
        return RedirectResponse(url, 303, CONSOLE_HEADERS)

    def _refuse(self, error: ServiceError, request: Request) -> Response:
        visit: Visit | None = request.scope.get(_VISIT)
        if visit is not None and error is visit.operator.refusal and not is_part(request):
            return self.views.html("not_operator.html", 403, visit=visit, reason=error.message)
        template = "part_error.html" if is_part(request) else "error.html"
        response = self.views.html(
            template,
            HTTP_STATUS[error.reason],
            visit=visit,
            error=error,
            details=sorted(error.metadata.items()),
        )
        if visit is not None and visit.operator.cookies is not None:
            visit.operator.cookies(response)
        return response


def _shown_page(request: Request) -> str:
    """Return the path and the query of the page that the browser shows or asks for; empty: they are not known."""
    if not is_part(request):
        return request.url.path + _query(request)
    try:
        shown = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return ""
    return urlunsplit(("", "", shown.path, shown.query, ""))


def _query(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""

"""A request of an operator to one page of the console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.event import Origin
from token_service.errors import PermissionDeniedError
from token_service.web.console.rendering import CONSOLE_HEADERS, Views
from token_service.web.oauth.parameters import Parameters
from token_service.web.oauth.requests import origin_of

HTMX: Final = "hx-request"
"""The header of requests that htmx sends for a part of a page."""
NO_PARAMETERS: Final = Parameters({})


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator behind a request."""

    caller: Caller
    name: str
    """The name that the pages show."""
    session: str
    """A value of the login that form tokens are tied to."""
    is_open: bool = False
    """Whether the console is open to everyone on this machine, so that there is no login and no logout."""
    refusal: PermissionDeniedError | None = None
    """Why a subject that has logged in is no operator; None: it is one."""
    cookies: Callable[[Response], None] | None = field(default=None, repr=False)
    """Sets cookies on the response: the tokens of the session were renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request with the operator that sent it. `query` are the parameters in the URL, `form` those of a form."""

    request: Request = field(repr=False)
    operator: Operator
    views: Views = field(repr=False)
    path: str
    """The path of the page below the console, such as `sessions`; empty: the overview."""
    title: str
    form_token: str = field(repr=False)
    now: float
    """Seconds since the Unix epoch."""
    query: Parameters = NO_PARAMETERS
    form: Parameters = NO_PARAMETERS

    @property
    def caller(self) -> Caller:
        """The caller for the use cases."""
        return self.operator.caller

    @property
    def is_part(self) -> bool:
        """Whether htmx asks for a part of a page."""
        return is_part(self.request)

    @property
    def origin(self) -> Origin:
        """The address and the program of the operator, for audit events."""
        return origin_of(self.request)

    def may(self, use_case: UseCase) -> bool:
        """Tell whether the operator has the permission for a use case, to explain what a page can't do.

        The use case itself decides.
        """
        try:
            admit(self.caller, use_case)
        except PermissionDeniedError:
            return False
        return True

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a whole page. `template` extends `layout.html`."""
        return self.views.html(template, status, visit=self, **values)

    def part(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return the part of a page that htmx replaces. `template` has only its content."""
        return self.views.html(template, status, visit=self, **values)

    def json(self, content: Any) -> Response:
        """Return data for a chart."""
        return JSONResponse(content, headers=CONSOLE_HEADERS)

    def url(self, path: str = "", /, **query: str | int | None) -> str:
        """Return the URL of a page, or of a part or an action of a page. Empty values are left out."""
        return self.views.url(path, **query)

    def here(self, /, **changes: str | int | None) -> str:
        """Return the URL of this page with its query, changed. An empty value removes a parameter."""
        return self.views.url(self.path, **{**self.query.as_dict(), **changes})

    def with_query(self, path: str) -> str:
        """Return the URL of a part of this page, with the query of the page.

        Templates must not pass the query on by themselves: jinja2 takes some names for its own.
        """
        return self.views.url(path, **self.query.as_dict())

    def redirect(self, path: str, /, **query: str | int | None) -> Response:
        """Return the response to a completed form: the browser gets a page, so that a reload sends nothing again."""
        url = self.url(path, **query)
        if self.is_part:
            return Response(status_code=204, headers={**CONSOLE_HEADERS, "HX-Redirect": url})
        return RedirectResponse(url, 303, CONSOLE_HEADERS)


Handler = Callable[[Visit], Awaitable[Response]]


def is_part(request: Request) -> bool:
    """Tell whether htmx sent a request."""
    return request.headers.get(HTMX) == "true"

"""How the console finds out which operator sent a request."""

from __future__ import annotations

from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from token_service.core.access.caller import Caller
from token_service.web.console.guard import origin_of_host, require_loopback_host, require_this_machine
from token_service.web.console.rendering import Views
from token_service.web.console.visit import Operator
from token_service.web.edge import HttpEdge, Refuse

_OPEN: Final = Operator(Caller.operator("console"), "everyone on this machine", "open", is_open=True)


class LoginNeededError(Exception):
    """A request has no login, or one that has ended."""

    def __init__(self, reason: str) -> None:
        """`reason`: a sentence for the operator."""
        super().__init__(reason)
        self.reason = reason


class ConsoleAccess(Protocol):
    """Identifies operators."""

    async def identify(self, request: Request) -> Operator:
        """Return the operator behind a request.

        Raises `LoginNeededError`, `InvalidRequestError`, `ReplicaStaleError` and `StoreUnavailableError`.
        """
        ...

    def origin(self, request: Request) -> str:
        """Return the only origin whose forms are accepted."""
        ...

    def is_arriving(self, request: Request) -> bool:
        """Tell whether a request without a login may have one, which the browser leaves out for requests of other sites."""
        ...

    async def log_out(self, request: Request, response: Response) -> None:
        """End the login of a request, and let the browser forget it. Raises `ServiceError`."""
        ...

    def routes(self, edge: HttpEdge, views: Views, refuse: Refuse) -> list[Route]:
        """Return the routes for the login. `refuse` returns the pages for errors."""
        ...


class OpenAccess:
    """Admits everyone on this machine with all permissions. Only for development on loopback."""

    async def identify(self, request: Request) -> Operator:
        """See `ConsoleAccess`."""
        require_loopback_host(request)
        require_this_machine(request)
        return _OPEN

    def origin(self, request: Request) -> str:
        """See `ConsoleAccess`."""
        return origin_of_host(request)

    def is_arriving(self, request: Request) -> bool:
        """See `ConsoleAccess`."""
        return False

    async def log_out(self, request: Request, response: Response) -> None:
        """Do nothing: there is no login."""

    def routes(self, edge: HttpEdge, views: Views, refuse: Refuse) -> list[Route]:
        """Return no route: there is no login."""
        return []

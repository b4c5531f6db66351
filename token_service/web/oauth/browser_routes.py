"""The routes that browsers come to, and those of clients that send browsers there."""

from __future__ import annotations

from starlette.routing import Route

from token_service.web.edge import HttpEdge
from token_service.web.oauth import discovery
from token_service.web.oauth.authorize import AuthorizationEndpoint
from token_service.web.oauth.device import DeviceEndpoint
from token_service.web.oauth.end_session import EndSessionEndpoint
from token_service.web.oauth.errors import oauth_refusal
from token_service.web.oauth.pages import Pages


def browser_routes(
    edge: HttpEdge,
    authorization: AuthorizationEndpoint,
    device: DeviceEndpoint,
    logout: EndSessionEndpoint,
    pages: Pages,
    *,
    issuer: str,
) -> list[Route]:
    """Return the routes. A page shows an error that no client may be told of."""
    path = discovery.issuer_path(issuer)
    routes = [
        edge.route(
            f"{path}{discovery.AUTHORIZE}",
            None,
            authorization.authorize,
            methods=("GET", "POST"),
            refuse=pages.error,
        ),
        edge.route(f"{path}/callback/{{upstream}}", None, authorization.callback, refuse=pages.error),
        edge.route(
            f"{path}{discovery.END_SESSION}", None, logout.end, methods=("GET", "POST"), refuse=pages.error
        ),
        edge.route(f"{path}{discovery.LOGOUT_RETURN}", None, logout.complete, refuse=pages.error),
        edge.route(
            f"{path}{discovery.PAR}", None, authorization.push, methods=("POST",), refuse=oauth_refusal
        ),
        edge.route(
            f"{path}{discovery.DEVICE_AUTHORIZATION}",
            None,
            device.authorize,
            methods=("POST",),
            refuse=oauth_refusal,
        ),
        edge.route(f"{path}{discovery.DEVICE}", None, device.show, refuse=pages.error),
        edge.route(f"{path}{discovery.DEVICE}", None, device.send, methods=("POST",), refuse=pages.error),
    ]
    for route in routes:
        # A request of a program that only looks at a URL must not begin or complete a login.
        assert route.methods is not None
        route.methods.discard("HEAD")
    return routes

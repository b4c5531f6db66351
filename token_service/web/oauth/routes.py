"""The routes of the OAuth endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.access.gate import UseCase
from token_service.core.grants.global_revocation import ENDPOINT
from token_service.web.edge import HttpEdge
from token_service.web.oauth import discovery
from token_service.web.oauth.errors import oauth_refusal
from token_service.web.oauth.global_revocation import GlobalRevocationEndpoint, revocation_refusal
from token_service.web.oauth.introspection import IntrospectionEndpoint
from token_service.web.oauth.revocation import RevocationEndpoint
from token_service.web.oauth.token import TokenEndpoint

_DISCOVERY_MAX_AGE = 300


def oauth_routes(
    edge: HttpEdge,
    token: TokenEndpoint,
    introspection: IntrospectionEndpoint,
    revocation: RevocationEndpoint,
    global_revocation: GlobalRevocationEndpoint,
    *,
    issuer: str,
    algorithms: Callable[[], Sequence[str]],
    more: Mapping[str, Any],
) -> list[Route]:
    """Return the routes. `algorithms` are those of the tokens; `more`: members of the discovery document."""
    path = discovery.issuer_path(issuer)

    async def document(_: Request) -> Response:
        body = discovery.discovery_document(
            issuer,
            algorithms=algorithms(),
            grant_types=token.grant_types,
            grant_profiles=token.grant_profiles,
            more=more,
        )
        return JSONResponse(body, headers={"Cache-Control": f"public, max-age={_DISCOVERY_MAX_AGE}"})

    return [
        *(  # first, because routes are matched one after another
            edge.route(f"{path}{endpoint}", None, answer, methods=("POST",), refuse=oauth_refusal)
            for endpoint, answer in (
                (discovery.INTROSPECTION, introspection.answer),
                (discovery.TOKEN, token.answer),
                (discovery.REVOCATION, revocation.answer),
            )
        ),
        *(edge.route(each, UseCase.GET_DISCOVERY, document) for each in discovery.discovery_paths(issuer)),
        edge.route(
            f"{path}{ENDPOINT}",
            None,
            global_revocation.answer,
            methods=("POST",),
            refuse=revocation_refusal,
        ),
    ]

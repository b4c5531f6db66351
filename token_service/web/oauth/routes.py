"""The routes of the OAuth endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.access.gate import UseCase
from token_service.core.grants.global_revocation import ENDPOINT
from token_service.web.edge import Endpoint, HttpEdge, Refuse
from token_service.web.oauth import discovery
from token_service.web.oauth.cors import ANY_ORIGIN, Cors
from token_service.web.oauth.errors import oauth_refusal
from token_service.web.oauth.global_revocation import GlobalRevocationEndpoint, revocation_refusal
from token_service.web.oauth.introspection import IntrospectionEndpoint
from token_service.web.oauth.revocation import RevocationEndpoint
from token_service.web.oauth.token import TokenEndpoint
from token_service.web.oauth.userinfo import UserInfoEndpoint, bearer_refusal

_DISCOVERY_MAX_AGE = 300


def oauth_routes(
    edge: HttpEdge,
    token: TokenEndpoint,
    introspection: IntrospectionEndpoint,
    revocation: RevocationEndpoint,
    global_revocation: GlobalRevocationEndpoint,
    userinfo: UserInfoEndpoint,
    cors: Cors,
    *,
    issuer: str,
    algorithms: Callable[[], Sequence[str]],
    more: Callable[[], Mapping[str, Any]],
) -> list[Route]:
    """Return the routes. `algorithms` are those of the tokens; `more`: members of the discovery document."""
    path = discovery.issuer_path(issuer)

    async def document(_: Request) -> Response:
        body = discovery.discovery_document(
            issuer,
            algorithms=algorithms(),
            grant_types=token.grant_types,
            grant_profiles=token.grant_profiles,
            more=more(),
        )
        headers = {"Cache-Control": f"public, max-age={_DISCOVERY_MAX_AGE}", **ANY_ORIGIN}
        return JSONResponse(body, headers=headers)

    return [
        # First, because routes are matched one after another. Services ask for introspection, never web pages.
        edge.route(
            f"{path}{discovery.INTROSPECTION}",
            None,
            introspection.answer,
            methods=("POST",),
            refuse=oauth_refusal,
        ),
        *_endpoint(edge, cors, f"{path}{discovery.TOKEN}", token.answer),
        *_endpoint(edge, cors, f"{path}{discovery.REVOCATION}", revocation.answer),
        *_endpoint(
            edge,
            cors,
            f"{path}{discovery.USERINFO}",
            userinfo.answer,
            methods=("GET", "POST"),
            refuse=bearer_refusal,
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


def _endpoint(
    edge: HttpEdge,
    cors: Cors,
    path: str,
    answer: Endpoint,
    *,
    methods: Sequence[str] = ("POST",),
    refuse: Refuse = oauth_refusal,
) -> list[Route]:
    """Return the routes of an endpoint that clients call, also from web pages."""
    return [
        edge.route(path, None, cors.answering(answer), methods=methods, refuse=cors.refusing(refuse)),
        edge.route(path, UseCase.GET_DISCOVERY, cors.preflight(*methods), methods=("OPTIONS",)),
    ]

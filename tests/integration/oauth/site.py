"""A node with one OAuth client of each kind, for the tests of RFC 9700."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from tests.integration.calls import ACCESS, ID, REFRESH, TIMEOUT, Api
from tests.integration.oauth.node import API, REFRESH_TOKEN, OAuthNode, Registered, register
from token_service.v1 import authorization_service_pb2 as pb, authorization_service_pb2_grpc

OTHER_API = "https://other.example"
ORIGIN = "https://app.example"
IDLE = 3600
AUTHORIZATION_CODE = "authorization_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
REDIRECT_URI = "https://app.example/cb"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""The pair of RFC 7636, appendix B."""


@dataclass(frozen=True)
class Clients:
    """One client of each kind."""

    page: Registered
    other_page: Registered
    service: Registered
    signing: Registered


class Site:
    """A node, its clients, and its HTTP endpoints."""

    def __init__(self, node: OAuthNode, clients: Clients, api: Api, http: httpx.AsyncClient) -> None:
        self.node, self.api, self.http = node, api, http
        self.page, self.other_page = clients.page, clients.other_page
        self.service, self.signing = clients.service, clients.signing

    async def token(
        self, parameters: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a token request."""
        return await self.http.post("/token", data=dict(parameters), headers=headers)

    async def refresh(self, token: str, client: Registered | None = None, **more: Any) -> httpx.Response:
        """Refresh as the page, or as another client."""
        proof = (client or self.page).post
        return await self.token({"grant_type": REFRESH_TOKEN, "refresh_token": token, **proof, **more})

    async def exchange(self, code: str, **more: Any) -> httpx.Response:
        """Exchange a code."""
        return await self.token({"grant_type": AUTHORIZATION_CODE, "code": code, **more})

    async def code(self, **changes: Any) -> str:
        """Return a new code of the page."""
        request = pb.CreateAuthorizationGrantRequest(
            **{
                "subject": "alice",
                "client_id": "page",
                "redirect_uri": REDIRECT_URI,
                "audience": [API],
                "scopes": ["read"],
                "code_challenge": CHALLENGE,
                **changes,
            }
        )
        stub: Any = authorization_service_pb2_grpc.AuthorizationServiceStub(self.api.channel)
        code: str = (await stub.CreateAuthorizationGrant(request, timeout=TIMEOUT)).code
        return code

    async def logged_in(self, subject: str = "alice") -> str:
        """Return the refresh token of a new session of the page."""
        issued = await self.api.issue(
            subject, client_id="page", audience=[API, OTHER_API], token_types=[ACCESS, REFRESH, ID]
        )
        return issued.refresh_token


async def register_clients(node: OAuthNode) -> Clients:
    """Register the clients."""
    async with Api(node.grpc_address) as api:
        both: dict[str, Any] = {
            "audiences": [API, OTHER_API],
            "grant_types": [AUTHORIZATION_CODE, REFRESH_TOKEN, TOKEN_EXCHANGE],
            "redirect_uris": [REDIRECT_URI],
        }
        return Clients(
            page=await register(api, "page", "none", **both, allowed_origins=[ORIGIN]),
            other_page=await register(api, "other-page", "none", **both),
            service=await register(api, "service", audiences=[API, OTHER_API]),
            signing=await register(api, "signing", "private_key_jwt"),
        )


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the claims of the access token in a response, unverified."""
    assert answer.status_code == 200, answer.text
    claims: dict[str, Any] = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return claims


def error_of(answer: httpx.Response, status: int = 400) -> str:
    """Return the error code of a refused request."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    code: str = answer.json()["error"]
    return code

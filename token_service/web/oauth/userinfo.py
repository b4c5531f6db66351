"""`/userinfo` (OpenID Connect Core 1.0, section 5.3)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.core.validation.userinfo import UserInfo
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidRequestError,
    PermissionDeniedError,
    ServiceError,
)
from token_service.web.oauth.cors import note_client
from token_service.web.oauth.errors import NO_STORE, REALM, describe, oauth_refusal
from token_service.web.oauth.parameters import read_form

_SENT = "token_service.bearer_sent"


class UserInfoEndpoint:
    """The userinfo endpoint. The access token is in the header or, of a POST, in the form, but never in the URL."""

    def __init__(self, userinfo: UserInfo) -> None:
        self._userinfo = userinfo

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        token = await self._userinfo.verify(await _token_of(request))
        note_client(request, token.client_id)
        return JSONResponse(await self._userinfo.claims(token), headers=NO_STORE)


async def _token_of(request: Request) -> str:
    """Return the access token of a request (RFC 6750, sections 2.1 and 2.2)."""
    if request.scope.get("query_string"):
        raise InvalidRequestError.of("query", "must be empty; send the access token in the header")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    if request.method == "POST" and "content-type" in request.headers:
        sent = (await read_form(request)).get("access_token")
        if sent and token:
            raise InvalidRequestError.of("access_token", "is sent both in the header and in the form")
        token = token or sent
    if not token:
        raise CallerUnauthenticatedError(
            "send an access token with the scope openid in the header Authorization"
        )
    request.scope[_SENT] = True
    return token


def bearer_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error (RFC 6750, section 3). A request without a token learns no error code."""
    if isinstance(error, CallerUnauthenticatedError):
        code, status = "invalid_token", 401
    elif isinstance(error, PermissionDeniedError):
        code, status = "insufficient_scope", 403
    else:
        return oauth_refusal(error, request)
    challenge = f'Bearer realm="{REALM}"'
    if request.scope.get(_SENT):
        challenge += f', error="{code}"'
    if scope := error.metadata.get("scope"):
        challenge += f', scope="{scope}"'
    headers = {**NO_STORE, "WWW-Authenticate": challenge}
    body = {"error": code, "error_description": describe(error.message), "reason": error.reason.value}
    return JSONResponse(body, status, headers)

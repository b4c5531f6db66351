"""`/userinfo` (OpenID Connect Core 1.0, section 5.3)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.core.validation.userinfo import UserInfo
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidRequestError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    ServiceError,
)
from token_service.tokens.dpop import DPOP_ALGORITHMS
from token_service.tokens.possession import Scheme
from token_service.web.oauth.cors import note_client
from token_service.web.oauth.errors import NO_STORE, REALM, describe, oauth_refusal
from token_service.web.oauth.key_proofs import HttpKeyProofs, nonce_headers
from token_service.web.oauth.parameters import read_form
from token_service.wire import oauth_error

SENT_SCHEME: Final = "token_service.scheme"
"""The scheme with which a request sent its access token."""


class UserInfoEndpoint:
    """The userinfo endpoint. The access token is in the header or, of a POST, in the form, but never in the URL.

    A token that is bound to a DPoP key comes with the scheme `DPoP` and a proof (RFC 9449, section 7.1).
    """

    def __init__(self, userinfo: UserInfo, keys: HttpKeyProofs) -> None:
        self._userinfo = userinfo
        self._keys = keys

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        text, scheme = await _token_of(request)
        token = await self._userinfo.verify(text, self._keys.presented(request), scheme)
        note_client(request, token.client_id)
        headers = self._keys.nonce(token.client_id) if scheme is Scheme.DPOP else {}
        return JSONResponse(await self._userinfo.claims(token), headers={**NO_STORE, **headers})


async def _token_of(request: Request) -> tuple[str, Scheme]:
    """Return the access token of a request and its scheme (RFC 6750, sections 2.1 and 2.2)."""
    if request.scope.get("query_string"):
        raise InvalidRequestError.of("query", "must be empty; send the access token in the header")
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise InvalidRequestError.of("authorization", "is sent more than once")
    name, _, token = (headers[0] if headers else "").partition(" ")
    scheme = Scheme.DPOP if name.lower() == "dpop" else Scheme.BEARER
    token = token.strip() if name.lower() in {"bearer", "dpop"} else ""
    if request.method == "POST" and "content-type" in request.headers:
        sent = (await read_form(request)).get("access_token")
        if sent and token:
            raise InvalidRequestError.of("access_token", "is sent both in the header and in the form")
        token = token or sent
    if not token:
        raise CallerUnauthenticatedError(
            "send an access token with the scope openid in the header Authorization"
        )
    request.scope[SENT_SCHEME] = scheme
    return token, scheme


def bearer_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error (RFC 6750, section 3; RFC 9449, section 7.1).

    A request without a token learns no error code.
    """
    scheme: Scheme | None = request.scope.get(SENT_SCHEME)
    if isinstance(error, ProofInvalidError | ProofNonceRequiredError):
        code, status = oauth_error(error)[0], 401
    elif isinstance(error, CallerUnauthenticatedError):
        code, status = "invalid_token", 401
    elif isinstance(error, PermissionDeniedError):
        code, status = "insufficient_scope", 403
    else:
        return oauth_refusal(error, request)
    if error.metadata.get("scheme") == Scheme.DPOP:
        scheme = Scheme.DPOP  # the token is bound to a DPoP key, and came with the scheme Bearer
    challenge = f'{scheme or Scheme.BEARER} realm="{REALM}"'
    if scheme is not None:
        challenge += f', error="{code}"'
    if scope := error.metadata.get("scope"):
        challenge += f', scope="{scope}"'
    if scheme is Scheme.DPOP:
        challenge += f', algs="{" ".join(DPOP_ALGORITHMS)}"'
    headers = {**NO_STORE, "WWW-Authenticate": challenge, **nonce_headers(error)}
    body = {"error": code, "error_description": describe(error.message), "reason": error.reason.value}
    return JSONResponse(body, status, headers)

"""Error responses of the OAuth endpoints (RFC 6749, section 5.2)."""

from __future__ import annotations

import re
from math import ceil
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.errors import ProofInvalidError, ProofNonceRequiredError, ServiceError
from token_service.tokens.possession import Scheme
from token_service.web.oauth.key_proofs import nonce_headers
from token_service.wire import oauth_error

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of every response that may have a token or an error (RFC 6749, section 5.1)."""
REALM: Final = "token-service"
_BEARER_ERRORS: Final = {
    "invalid_client": ("invalid_token", 401),
    "unauthorized_client": ("insufficient_scope", 403),
}
_SCHEMES: Final = {each.lower(): each for each in Scheme}
_MAX_DESCRIPTION: Final = 512
_UNQUOTED: Final = str.maketrans({'"': "'", "\\": "/"})
_NOT_ALLOWED: Final = re.compile(r"[^\x20-\x7e]")


def oauth_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error. Besides the members of RFC 6749 it has the `reason` of the error.

    A request with an access token gets the codes and statuses of RFC 6750, section 3.1, and of RFC 9449, section 7.1.
    """
    code, status = oauth_error(error)
    headers = {**NO_STORE, **nonce_headers(error)}
    name, space, _ = request.headers.get("authorization", "").partition(" ")
    scheme = _SCHEMES.get(name.lower()) if space else None
    if scheme is not None:
        code, status = _BEARER_ERRORS.get(code, (code, status))
        if isinstance(error, ProofInvalidError | ProofNonceRequiredError):
            status = 401
        if status in {401, 403}:
            headers["WWW-Authenticate"] = f'{scheme} realm="{REALM}", error="{code}"'
    elif status == 401:
        headers["WWW-Authenticate"] = f'Basic realm="{REALM}", charset="UTF-8"'
    body: dict[str, Any] = {
        "error": code,
        "error_description": describe(error.message),
        "reason": error.reason.value,
    }
    if "error_id" in error.metadata:
        body["error_id"] = error.metadata["error_id"]
    if "max_age" in error.metadata:
        body["max_age"] = int(error.metadata["max_age"])
    retry_after = error.retry_after
    if retry_after is None and status == 503:
        retry_after = 1.0
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_after)))
    return JSONResponse(body, status, headers)


def describe(message: str) -> str:
    """Return a message in the characters that `error_description` may have (RFC 6749, section 5.2)."""
    return _NOT_ALLOWED.sub("?", message.translate(_UNQUOTED))[:_MAX_DESCRIPTION]

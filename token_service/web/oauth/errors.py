"""Error responses of the OAuth endpoints (RFC 6749, section 5.2)."""

from __future__ import annotations

import re
from math import ceil
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.errors import ServiceError
from token_service.wire import oauth_error

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of every response that may have a token or an error (RFC 6749, section 5.1)."""
REALM: Final = "token-service"
_MAX_DESCRIPTION: Final = 512
_UNQUOTED: Final = str.maketrans({'"': "'", "\\": "/"})
_NOT_ALLOWED: Final = re.compile(r"[^\x20-\x7e]")


def oauth_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error. Besides the members of RFC 6749 it has the `reason` of the error."""
    code, status = oauth_error(error)
    body: dict[str, Any] = {
        "error": code,
        "error_description": describe(error.message),
        "reason": error.reason.value,
    }
    if "error_id" in error.metadata:
        body["error_id"] = error.metadata["error_id"]
    headers = dict(NO_STORE)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    if status == 401:
        scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
        headers["WWW-Authenticate"] = (
            f'Bearer realm="{REALM}", error="invalid_token"'
            if scheme == "bearer"
            else f'Basic realm="{REALM}", charset="UTF-8"'
        )
    return JSONResponse(body, status, headers)


def describe(message: str) -> str:
    """Return a message in the characters that `error_description` may have (RFC 6749, section 5.2)."""
    return _NOT_ALLOWED.sub("?", message.translate(_UNQUOTED))[:_MAX_DESCRIPTION]

"""Reads the requests of receivers, and makes the responses for errors."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from token_service.core.access.caller import Caller
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidRequestError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    ServiceError,
)
from token_service.tokens import strict_json
from token_service.tokens.possession import Scheme
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.parameters import Parameters, query_of, read_body
from token_service.web.oauth.userinfo import SENT_SCHEME, bearer_refusal
from token_service.wire import HTTP_STATUS

MAX_BODY: Final = 128 * 1024
"""Bytes of a request body. The longest acknowledges 1,000 events."""
_JSON: Final = "application/json"
_NO_PARAMETERS: Final = Parameters({})
_AS_BEARER: Final = (
    CallerUnauthenticatedError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
)


async def receiver(callers: HttpCallers, request: Request) -> Caller:
    """Return the receiver, which sends an access token in the header. Raises the errors of `HttpCallers.caller`."""
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if scheme not in {Scheme.BEARER.lower(), Scheme.DPOP.lower()}:
        raise CallerUnauthenticatedError("send an access token in the header Authorization")
    request.scope[SENT_SCHEME] = Scheme.DPOP if scheme == Scheme.DPOP.lower() else Scheme.BEARER
    return await callers.caller(request, _NO_PARAMETERS)


def ssf_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error: RFC 6750 for the access token, else the status of the error."""
    response = bearer_refusal(error, request)
    if not isinstance(error, _AS_BEARER):
        response.status_code = HTTP_STATUS[error.reason]
    return response


async def json_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body. Raises `InvalidRequestError`."""
    content = request.headers.get("content-type")
    if content is not None and content.partition(";")[0].strip().lower() != _JSON:
        raise InvalidRequestError.of("content-type", f"must be {_JSON}")
    if request.scope.get("query_string"):
        raise InvalidRequestError.of("query", "must be empty")
    try:
        return strict_json.decode_object(await read_body(request, MAX_BODY))
    except ValueError:
        raise InvalidRequestError.of("body", "is no JSON object") from None


def stream_id_in_query(request: Request) -> str:
    """Return the parameter `stream_id`; empty: it was not sent. Raises `InvalidRequestError`."""
    return query_of(request).get("stream_id")


def text_in(body: dict[str, Any], name: str, *, required: bool = False) -> str:
    """Return the text of a member; empty: it was not sent, or is null. Raises `InvalidRequestError`."""
    value = body.get(name)
    if value is None or value == "":
        if required:
            raise InvalidRequestError.of(name, "is required")
        return ""
    if not isinstance(value, str):
        raise InvalidRequestError.of(name, "must be a text")
    return value

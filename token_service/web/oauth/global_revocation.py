"""`POST /global-token-revocation` (draft-parecki-oauth-global-token-revocation, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from token_service.clock import Clock
from token_service.core.grants.global_revocation import (
    EmailIdentifier,
    GlobalRevocation,
    IssuerAndSubject,
    OpaqueIdentifier,
    SubjectIdentifier,
    is_revocation_token,
)
from token_service.errors import InvalidRequestError, ServiceError
from token_service.tokens import strict_json
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE, oauth_refusal
from token_service.web.oauth.parameters import Parameters, read_body
from token_service.wire import HTTP_STATUS

MAX_REVOCATION_BODY: Final = 16 * 1024
"""Bytes of a request."""
_JSON: Final = "application/json"
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "iss_sub": ("iss", "sub"),
    "opaque": ("id",),
    "email": ("email",),
}
"""The supported formats of a subject identifier, and their members besides `format`."""
_NO_PARAMETERS: Final = Parameters({})


class GlobalRevocationEndpoint:
    """The endpoint for other systems that end everything a subject holds."""

    def __init__(self, callers: HttpCallers, revocation: GlobalRevocation, clock: Clock) -> None:
        self._callers = callers
        self._revocation = revocation
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        bearer = _bearer(request)
        if is_revocation_token(bearer):
            identifier = await _identifier(request)
            await self._revocation.revoke_for_issuer(bearer, identifier, self._clock.now())
        else:
            caller = await self._callers.caller(request, _NO_PARAMETERS)
            identifier = await _identifier(request)
            await self._revocation.revoke(caller, identifier, self._clock.now())
        return Response(status_code=204, headers=NO_STORE)


def revocation_refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error. Its status is that of the draft, section 3.4.2: 403 without the right."""
    response = oauth_refusal(error, request)
    response.status_code = HTTP_STATUS[error.reason]
    return response


def _bearer(request: Request) -> str:
    """Return the one bearer token of a request; empty if there is another proof."""
    headers = request.headers.getlist("authorization")
    scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


async def _identifier(request: Request) -> SubjectIdentifier:
    """Return the subject identifier in the body. Raises `InvalidRequestError`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise InvalidRequestError.of("content-type", f"must be {_JSON}")
    if request.url.query:
        raise InvalidRequestError.of("query", "must be empty")
    try:
        body = strict_json.decode_object(await read_body(request, MAX_REVOCATION_BODY))
    except ValueError:
        raise InvalidRequestError.of("body", "is no JSON object") from None
    if set(body) != {"sub_id"}:
        raise InvalidRequestError.of("body", "must have the one member sub_id")
    found = _parse(body["sub_id"])
    if found is None:
        raise InvalidRequestError.of(
            "sub_id",
            "must be a subject identifier (RFC 9493) of the format iss_sub (iss, sub), opaque (id) or email (email)",
        )
    return found


def _parse(value: Any) -> SubjectIdentifier | None:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        return None
    members = _MEMBERS.get(value.get("format", ""))
    if members is None or set(value) != {"format", *members}:
        return None
    match value["format"]:
        case "iss_sub":
            return IssuerAndSubject(value["iss"], value["sub"])
        case "opaque":
            return OpaqueIdentifier(value["id"])
    return EmailIdentifier(value["email"])

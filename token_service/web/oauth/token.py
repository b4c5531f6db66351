"""`POST /token` (RFC 6749, section 3.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import floor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.clients.client import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    JWT_BEARER,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
)
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.exchange import ExchangeRequest
from token_service.core.grants.grants import Grants
from token_service.core.issuing.commands import IssuedTokens
from token_service.errors import GrantTypeUnknownError
from token_service.tokens import strict_json
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.discovery import ID_JAG_PROFILE
from token_service.web.oauth.errors import NO_STORE
from token_service.web.oauth.key_proofs import HttpKeyProofs
from token_service.web.oauth.parameters import Parameters, read_form
from token_service.web.oauth.requests import grant_request

_Grant = Callable[[Caller, GrantRequest, Parameters], Awaitable[dict[str, Any]]]


class TokenEndpoint:
    """The token endpoint."""

    def __init__(self, callers: HttpCallers, keys: HttpKeyProofs, grants: Grants, clock: Clock) -> None:
        self._callers = callers
        self._keys = keys
        self._grants = grants
        self._clock = clock
        self._by_type: dict[str, _Grant] = {
            AUTHORIZATION_CODE: self._authorization_code,
            CLIENT_CREDENTIALS: self._client_credentials,
            DEVICE_CODE: self._device_code,
            REFRESH_TOKEN: self._refresh_token,
            JWT_BEARER: self._jwt_bearer,
            TOKEN_EXCHANGE: self._exchange,
        }

    @property
    def grant_types(self) -> list[str]:
        """The supported grant types: assertions if an issuer is trusted, device codes if there is an upstream."""
        available = {
            JWT_BEARER: bool(self._grants.assertion.trusted.names),
            DEVICE_CODE: self._grants.device.is_available,
        }
        return [each for each in self._by_type if available.get(each, True)]

    @property
    def grant_profiles(self) -> list[str]:
        """The supported profiles of assertions (draft-ietf-oauth-identity-assertion-authz-grant, section 7)."""
        return [ID_JAG_PROFILE] if self._grants.assertion.trusted.take_id_jag else []

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        parameters = await read_form(request)
        caller = await self._callers.client(request, parameters)
        grant_type = parameters.required("grant_type")
        grant = self._by_type.get(grant_type)
        if grant is None:
            raise GrantTypeUnknownError(f"grant_type must be one of {', '.join(self.grant_types)}")
        keys = self._keys.prove(request, caller.client_id)
        body = await grant(caller, grant_request(request, parameters, keys), parameters)
        headers = {**NO_STORE, **self._keys.headers(keys, caller.client_id)}
        return Response(strict_json.encode(body), media_type="application/json", headers=headers)

    async def _client_credentials(
        self, caller: Caller, request: GrantRequest, _: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        return token_response(await self._grants.client_credentials.grant(caller, request, now), now)

    async def _authorization_code(
        self, caller: Caller, request: GrantRequest, parameters: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        issued = await self._grants.code.grant(
            caller,
            request,
            code=parameters.required("code"),
            redirect_uri=parameters.get("redirect_uri"),
            code_verifier=parameters.required("code_verifier"),
            now=now,
        )
        return token_response(issued, now)

    async def _device_code(
        self, caller: Caller, request: GrantRequest, parameters: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        issued = await self._grants.device.grant(caller, request, parameters.required("device_code"), now)
        return token_response(issued, now)

    async def _refresh_token(
        self, caller: Caller, request: GrantRequest, parameters: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        issued = await self._grants.refresh.grant(
            caller, request, parameters.required("refresh_token"), parameters.get("device_id"), now
        )
        return token_response(issued, now)

    async def _jwt_bearer(
        self, caller: Caller, request: GrantRequest, parameters: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        issued = await self._grants.assertion.grant(caller, request, parameters.required("assertion"), now)
        return token_response(issued, now)

    async def _exchange(
        self, caller: Caller, request: GrantRequest, parameters: Parameters
    ) -> dict[str, Any]:
        now = self._clock.now()
        exchange = ExchangeRequest(
            subject_token=parameters.required("subject_token"),
            subject_token_type=parameters.required("subject_token_type"),
            actor_token=parameters.get("actor_token"),
            actor_token_type=parameters.get("actor_token_type"),
            requested_token_type=parameters.get("requested_token_type"),
            request_context=parameters.get("request_context"),
            request_details=parameters.get("request_details"),
        )
        exchanged = await self._grants.exchange.grant(caller, request, exchange, now)
        return {
            **token_response(exchanged.tokens, now),
            "issued_token_type": exchanged.issued_token_type,
        }


def token_response(issued: IssuedTokens, now: float) -> dict[str, Any]:
    """Return the members of a token response (RFC 6749, section 5.1). Nothing is null.

    `refresh_token_timeout` and `authorization_expires_in` are those of draft-ietf-oauth-refresh-token-expiration.
    """
    body: dict[str, Any] = {"access_token": issued.access_token, "token_type": issued.token_type}
    if issued.access_token_expire_time is not None:
        body["expires_in"] = _seconds(issued.access_token_expire_time, now)
    if issued.scopes:
        body["scope"] = " ".join(issued.scopes)
    if issued.refresh_token:
        body["refresh_token"] = issued.refresh_token
        if issued.refresh_token_expire_time is not None:
            body["refresh_token_timeout"] = _seconds(issued.refresh_token_expire_time, now)
        if issued.session_expire_time is not None:
            body["authorization_expires_in"] = _seconds(issued.session_expire_time, now)
    if issued.id_token:
        body["id_token"] = issued.id_token
    return body


def _seconds(time: float, now: float) -> int:
    return max(0, floor(time - now))

"""`POST /revoke` (RFC 7009)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from token_service.clock import Clock
from token_service.core.revocation.token_revocation import TokenRevocation
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE
from token_service.web.oauth.parameters import read_form


class RevocationEndpoint:
    """The revocation endpoint."""

    def __init__(self, callers: HttpCallers, tokens: TokenRevocation, clock: Clock) -> None:
        self._callers = callers
        self._tokens = tokens
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """Answer a request with an empty body. Raises `ServiceError`.

        `token_type_hint` is ignored: the text of a token tells its kind (RFC 7009, section 2.1).
        """
        parameters = await read_form(request)
        caller = await self._callers.client(request, parameters)
        await self._tokens.revoke(caller, parameters.required("token"), self._clock.now())
        return Response(headers=NO_STORE)

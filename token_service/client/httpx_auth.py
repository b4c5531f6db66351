"""Access tokens for httpx.

    client = httpx.AsyncClient(auth=TokenAuth(source))

Needs httpx, which this package does not install.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from token_service.client.renewal import SyncTokenSource, TokenSource
from token_service.errors import ConfigurationError


class TokenAuth(httpx.Auth):
    """Adds `Authorization: Bearer …` and, where that is answered 401 `invalid_token`, tries once more with a
    new token.

    An `httpx.AsyncClient` takes a `TokenSource`, an `httpx.Client` a `SyncTokenSource`.
    """

    def __init__(self, source: TokenSource | SyncTokenSource) -> None:
        self._source = source

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """For `httpx.Client`."""
        if not isinstance(self._source, SyncTokenSource):
            raise ConfigurationError("httpx.Client needs a SyncTokenSource")
        token = self._source.token()
        response = yield _with(request, token)
        if _refused(response):
            self._source.invalidate(token)
            yield _with(request, self._source.token())

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """For `httpx.AsyncClient`."""
        if not isinstance(self._source, TokenSource):
            raise ConfigurationError("httpx.AsyncClient needs a TokenSource")
        token = await self._source.token()
        response = yield _with(request, token)
        if _refused(response):
            self._source.invalidate(token)
            yield _with(request, await self._source.token())


def _with(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _refused(response: httpx.Response) -> bool:
    return (
        response.status_code == httpx.codes.UNAUTHORIZED
        and 'error="invalid_token"' in response.headers.get("www-authenticate", "")
    )

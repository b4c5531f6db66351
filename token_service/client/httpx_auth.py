"""httpx authentication with access tokens.

    client = httpx.AsyncClient(auth=TokenAuth(source))

This module needs httpx, which this package does not install.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

from token_service.client._internal.challenges import parse_challenges
from token_service.client.sync_token_source import SyncTokenSource
from token_service.client.token_source import TokenSource
from token_service.errors import ConfigurationError

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    raise ModuleNotFoundError("TokenAuth needs httpx; install it: pip install httpx", name="httpx") from None


class TokenAuth(httpx.Auth):
    """httpx authentication that adds `Authorization: Bearer …`.

    After a response 401 `invalid_token` it sends the request once more with a new token. A streamed body (an
    iterator, a file, a multipart form) can't be sent twice: the caller gets the 401, and the next request
    carries a new token.

    An `httpx.AsyncClient` needs a `TokenSource`, an `httpx.Client` a `SyncTokenSource`.
    """

    def __init__(self, source: TokenSource | SyncTokenSource) -> None:
        self._source = source

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of `httpx.Client`."""
        if not isinstance(self._source, SyncTokenSource):
            raise ConfigurationError("httpx.Client needs a SyncTokenSource")
        token = self._source.token()
        response = yield _with(request, token)
        if _was_sent(response, token) and _refused(response):
            self._source.invalidate(token)
            if _can_be_repeated(request):
                yield _with(request, self._source.token())

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate a request of `httpx.AsyncClient`."""
        if not isinstance(self._source, TokenSource):
            raise ConfigurationError("httpx.AsyncClient needs a TokenSource")
        token = await self._source.token()
        response = yield _with(request, token)
        if _was_sent(response, token) and _refused(response):
            self._source.invalidate(token)
            if _can_be_repeated(request):
                yield _with(request, await self._source.token())


def _with(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _was_sent(response: httpx.Response, token: str) -> bool:
    """Return whether the answered request carried the token: httpx drops it on a redirect to another host."""
    return bool(response.request.headers.get("Authorization") == f"Bearer {token}")


def _refused(response: httpx.Response) -> bool:
    return response.status_code == httpx.codes.UNAUTHORIZED and any(
        scheme == "bearer" and parameters.get("error") == "invalid_token"
        for scheme, parameters in parse_challenges(response.headers.get("WWW-Authenticate", ""))
    )


def _can_be_repeated(request: httpx.Request) -> bool:
    """Return whether the whole body is in memory."""
    return isinstance(request.stream, httpx.ByteStream)

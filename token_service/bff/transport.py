"""HTTP requests to the provider: bounded in time and size, without redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from token_service.bff.failures import ProviderUnavailableError
from token_service.tokens import strict_json

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    raise ModuleNotFoundError(
        "token_service.bff needs httpx; install it: pip install 'grpc-token-service[bff]'", name="httpx"
    ) from None

MAX_ANSWER: Final = 256 * 1024
"""Bytes of an answer of the provider."""
_LONGEST_RETRY: Final = 60.0
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    retry_after: float

    def json(self) -> dict[str, Any]:
        """Return the JSON object. Raises `ProviderUnavailableError` for another body."""
        if self.content_type.partition(";")[0].strip().lower() != "application/json":
            raise ProviderUnavailableError("the provider answered with another content type than JSON")
        return self.object()

    def object(self) -> dict[str, Any]:
        """Return the JSON object, whatever the content type is."""
        try:
            return strict_json.decode_object(self.body)
        except ValueError:
            raise ProviderUnavailableError("the provider did not answer with a JSON object") from None


class Transport:
    """One pool of connections to the provider. It opens with the first request."""

    def __init__(
        self, timeout: float, tls: ssl.SSLContext | None, headers: Mapping[str, str] = _NO_HEADERS
    ) -> None:
        """`headers`: of every request."""
        self._timeout = timeout
        self._headers = headers
        self._tls = tls
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def get(self, url: str) -> Answer:
        """Return the answer to a GET. Raises `ProviderUnavailableError` if there is none."""
        return await self._exchange("GET", url, {}, None)

    async def post(self, url: str, form: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """Return the answer to a form. Raises `ProviderUnavailableError` if there is none."""
        return await self._exchange("POST", url, headers, form)

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, Any] | None
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._open()
                accepted = {"Accept": "application/json", **self._headers, **headers}
                async with client.stream(method, url, headers=accepted, data=form) as response:
                    body = bytearray()
                    async for block in response.aiter_bytes():
                        body += block
                        if len(body) > MAX_ANSWER:
                            raise ProviderUnavailableError("the provider's answer is too large")
                    return Answer(
                        response.status_code,
                        response.headers.get("content-type", ""),
                        bytes(body),
                        _retry_after(response.headers.get("retry-after", "")),
                    )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            # The text of the error may name the URL, but no form and no header.
            raise ProviderUnavailableError(
                f"the provider did not answer: {type(error).__name__}", answer_lost=True
            ) from None

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                tls = self._tls
                if tls is None:
                    # The authorities of the system take a tenth of a second to load.
                    tls = await asyncio.to_thread(ssl.create_default_context)
                self._client = httpx.AsyncClient(verify=tls, timeout=self._timeout, follow_redirects=False)
            return self._client


def _retry_after(header: str) -> float:
    """Return the seconds that an answer asks to wait, within limits."""
    return min(float(header), _LONGEST_RETRY) if header.isascii() and header.isdigit() else 5.0

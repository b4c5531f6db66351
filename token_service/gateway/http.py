"""The HTTP edge: `/auth` for proxies, the metadata of the resource, health and metrics. An ASGI application."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from token_service.client._internal.http_gate import is_preflight
from token_service.client._internal.http_refusals import Refusal
from token_service.gateway.certificates import Certificates
from token_service.gateway.checker import Checker
from token_service.gateway.identity import Identity, is_misleading
from token_service.gateway.metrics import CONTENT_TYPE, Metrics
from token_service.gateway.request import ClientRequest
from token_service.gateway.settings import Http, Responses
from token_service.gateway.verdict import Outcome, Verdict, refused

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

_AUTH: Final = "/auth"
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")
_MAX_COMPLAINTS: Final = 64


class Auth:
    """The answers of `/auth`, for one configuration."""

    def __init__(
        self,
        checker: Checker,
        identity: Identity,
        certificates: Certificates,
        http: Http,
        responses: Responses,
    ) -> None:
        self._checker = checker
        self._identity = identity
        self._certificates = certificates
        self._http = http
        self._statuses = {400: responses.http_bad_request, 503: responses.http_unavailable}
        self._requirements = [(name.encode(), key) for key, name in http.requirement_headers.items()]
        described = (http.method_header, http.uri_header, http.scheme_header, http.host_header)
        self._of_proxy = frozenset(
            name.encode()
            for name in (*described, *http.requirement_headers.values(), certificates.header or "")
        )
        self._complaints: set[str] = set()

    async def check(
        self, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[Verdict, int, Headers, bytes]:
        """Return the verdict, and status, headers and body of the response. `path` is that of `/auth` itself."""
        request = self._request_of(path, headers)
        if isinstance(request, str):
            self._complain(request)
            verdict = refused("misconfigured", _FORBIDDEN)
        else:
            verdict = await self._checker.check(request)
        if verdict.outcome is Outcome.ALLOWED:
            found = [
                (name.encode(), value.encode())
                for name, value in self._identity.headers(verdict.claims).items()
            ]
            if verdict.nonce is not None:
                found.append((b"dpop-nonce", verdict.nonce.encode()))
            return verdict, 200, found, b""
        assert verdict.refusal is not None
        refusal = verdict.refusal
        found = [(name.encode(), value.encode("latin-1", "replace")) for name, value in refusal.headers]
        # A proxy that turns other statuses into 500 can pass the right one on from here.
        found += [(b"x-token-status", str(refusal.status).encode()), _TEXT]
        return verdict, self._statuses.get(refusal.status, refusal.status), found, refusal.body.encode()

    def _request_of(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> ClientRequest | str:
        """Return the request of the client, or the fault in the configuration of the proxy."""
        values: dict[bytes, str] = {}
        repeated: set[bytes] = set()
        for field, raw in headers:
            text = raw.decode("latin-1")
            if field in values:
                repeated.add(field)
                text = f"{values[field]},{text}"
            values[field] = text
        twice = repeated & self._of_proxy
        if twice:
            return f"a request to {_AUTH} has the header {min(twice).decode()!r} twice; let the proxy overwrite it"
        texts: dict[str, str] = {}
        if path != _AUTH:
            texts["route"] = path[len(_AUTH) + 1 :]
        else:
            for required, key in self._requirements:
                given = values.get(required)
                if given is None:
                    return f"a request to {_AUTH} has no header {required.decode()!r}; let the proxy set it"
                texts[key] = given
        http = self._http
        described = {
            name: values.get(name.encode(), "")
            for name in (http.method_header, http.uri_header, http.scheme_header, http.host_header)
        }
        for name in (http.method_header, http.uri_header):
            if not described[name]:
                return f"a request to {_AUTH} has no header {name!r}; let the proxy set it"
        method = described[http.method_header]
        source = self._certificates
        return ClientRequest(
            method=method,
            path=described[http.uri_header],
            host=described[http.host_header],
            scheme=described[http.scheme_header],
            authorization=values.get(b"authorization"),
            dpop=values.get(b"dpop"),
            is_preflight=is_preflight(method, lambda name: values.get(name.encode())),
            certificate=values.get(source.header.encode(), "") if source.header is not None else "",
            misleading=is_misleading(name.decode("latin-1") for name in values),
            texts=texts,
        )

    def _complain(self, complaint: str) -> None:
        if complaint not in self._complaints and len(self._complaints) < _MAX_COMPLAINTS:
            self._complaints.add(complaint)
            logger.error("refused a request: %s", complaint)


_FORBIDDEN: Final = Refusal(403, (), "forbidden")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of the protected resource (RFC 9728)."""

    path: str
    body: bytes


class Serving(Protocol):
    """What the application reads at each request."""

    @property
    def auth(self) -> Auth:
        """The answers of the configuration in use."""
        ...

    @property
    def metadata(self) -> Metadata | None:
        """None: there is no resource in the configuration."""
        ...

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether the gateway can judge tokens, and details for people."""
        ...


class HttpApp:
    """The ASGI application."""

    def __init__(self, serving: Serving, metrics: Metrics, *, max_header_bytes: int = 128 * 1024) -> None:
        self._serving = serving
        self._metrics = metrics
        self._most = max_header_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"a connection of type {scope['type']!r} is not served")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._most:
            # h11 limits a header only while it waits for the rest of it.
            await _respond(send, 431, [_TEXT], b"the headers are too long")
            return
        path: str = scope["path"]
        if path == _AUTH or path.startswith("/auth/"):
            begin = time.perf_counter()
            verdict, status, headers, body = await self._serving.auth.check(path, scope["headers"])
            self._metrics.checked("http", verdict, time.perf_counter() - begin)
            await _respond(send, status, [_NO_STORE, *headers], body)
            return
        status, headers, body = self._page(scope["method"], path)
        await _respond(send, status, headers, b"" if scope["method"] == "HEAD" else body, len(body))

    def _page(self, method: str, path: str) -> tuple[int, Headers, bytes]:
        metadata = self._serving.metadata
        if method not in {"GET", "HEAD"}:
            return 405, [_TEXT, (b"allow", b"GET, HEAD")], b"use GET"
        if metadata is not None and path == metadata.path:
            return (
                200,
                [_JSON, (b"cache-control", b"max-age=300"), (b"access-control-allow-origin", b"*")],
                metadata.body,
            )
        if path == "/livez":
            return 200, [_TEXT, _NO_STORE], b"ok"
        if path == "/readyz":
            ready, details = self._serving.readiness()
            return 200 if ready else 503, [_JSON, _NO_STORE], json.dumps(details).encode()
        if path == "/metrics":
            return 200, [(b"content-type", CONTENT_TYPE.encode()), _NO_STORE], self._metrics.text()
        return 404, [_TEXT], b"not found"


async def _respond(send: Send, status: int, headers: Headers, body: bytes, length: int | None = None) -> None:
    size = len(body) if length is None else length
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(size).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})

"""HTTP requests to hosts that others name: bounded, without redirects, only to checked addresses."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import h11

from token_service.fetching.addresses import Address, Target, permitted
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.failure import FetchError
from token_service.fetching.resolving import Resolve, SystemResolver
from token_service.files import read_regular
from token_service.telemetry.spans import Attributes, client_span, context_headers
from token_service.urls import UnusableValueError

MAX_CONNECTIONS: Final = 16
"""Most connections at the same time. A further fetch waits for its turn within its own time."""
_MAX_RECEIVED: Final = 2 * MAX_DOCUMENT_BYTES
"""Bytes of a whole answer, with headers, interim answers and the frames of chunks."""
_MAX_TRIED: Final = 3
"""Addresses of a host that a fetch tries."""
_CONNECT: Final = 1.5
"""Seconds to connect to an address that is not the last one to try."""
_MAX_AUTHORITIES: Final = 1024 * 1024
_MAX_TOKEN: Final = 16 * 1024
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_BLOCK: Final = 64 * 1024
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_ACCEPTED_KEYS: Final = "application/jwk-set+json, application/json"


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What the operator allows and adds for one source of keys. The files are read at every fetch.

    The authorities of the system are read once.
    """

    allow_private: bool = False
    """Whether the host may have private addresses, and plain http may reach loopback addresses."""
    authorities: Path | None = None
    """Certificate authorities in PEM that replace those of the system."""
    bearer_token: Path | None = None
    """A file with the bearer token that the server demands, as the API server of Kubernetes does.

    It is sent to the host of the issuer and to the host of the `jwks_uri` that the issuer names.
    """
    max_bytes: int = MAX_DOCUMENT_BYTES
    """The largest document."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server, with the headers that say how long it may be kept."""

    body: bytes
    cache_control: str
    age: str
    status: int = 200
    retry_after: str = ""


class HttpFetcher:
    """Fetches small documents, and sends forms, tokens and other small bodies. All sources of keys of a node share one fetcher and its limits."""

    def __init__(self, resolve: Resolve | None = None, *, connections: int = MAX_CONNECTIONS) -> None:
        self._resolve = resolve or SystemResolver()
        self._slots = asyncio.Semaphore(connections)
        self._system: ssl.SSLContext | None = None

    async def get(self, url: str, rules: FetchRules, *, authorization: str = "") -> Answer:
        """Return the answer to a GET, whose body has at most `rules.max_bytes`. The caller limits the time.

        Resolves the host, checks its addresses and connects to a checked address, so that a second look-up can't lead
        elsewhere (DNS rebinding). TLS verifies the name of the host. Proxies of the environment are not used, because a
        proxy would resolve the name again. `authorization`: the value of that header, if the rules have no bearer token.
        Raises `FetchError`.
        """
        async with self._slots:
            headers = _authorized({"Accept": _ACCEPTED_KEYS}, await _authorization(rules) or authorization)
            answer = await self._send(url, rules, "GET", headers, None)
        if answer.status != 200:
            raise FetchError(f"{_authority(url)} answered with status {answer.status}")
        return answer

    async def post_token(self, url: str, token: str, rules: FetchRules, *, authorization: str) -> Answer:
        """Send a security event token (RFC 8935) with the rules of `get`, and return the answer as `post` does.

        Raises `FetchError`. The server may then have received the token.
        """
        headers = _authorized({"Content-Type": "application/secevent+jwt", "Accept": _JSON}, authorization)
        return await self.post_body(url, token.encode(), rules, headers)

    async def post(
        self, url: str, form: Mapping[str, str], rules: FetchRules, *, authorization: str = ""
    ) -> Answer:
        """Send a form with the rules of `get`, and return the answer with any status that is no redirect.

        `authorization` is the value of the header. Raises `FetchError`. The server may then have received the form.
        """
        headers = _authorized({"Content-Type": _FORM, "Accept": _JSON}, authorization)
        return await self.post_body(url, urlencode(form).encode(), rules, headers)

    async def post_json(self, url: str, document: bytes, rules: FetchRules) -> Answer:
        """Send a JSON document with the rules of `get`, and return the answer with any status that is no redirect.

        Raises `FetchError`. The server may then have received the document.
        """
        headers = _authorized({"Content-Type": _JSON, "Accept": _JSON}, await _authorization(rules))
        return await self.post_body(url, document, rules, headers)

    async def post_body(self, url: str, body: bytes, rules: FetchRules, headers: Mapping[str, str]) -> Answer:
        """Send any body, whose type is in the headers, as `post` does."""
        async with self._slots:
            return await self._send(url, rules, "POST", headers, body)

    async def _send(
        self, url: str, rules: FetchRules, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            target = Target.parse(url, allow_private=rules.allow_private)
        except UnusableValueError as error:
            raise FetchError(f"the URL can't be used: {error}") from None
        with client_span(method, _attributes(target, method)):
            return await self._fetch(target, rules, method, headers, body)

    async def _fetch(
        self, target: Target, rules: FetchRules, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        context = await asyncio.to_thread(self._context, rules) if target.is_tls else None
        found = await self._resolve(target.host, target.port)
        addresses = permitted(target, found, allow_private=rules.allow_private)
        request = _request(target, method, headers, body)
        reader, writer = await _connect(target, addresses[:_MAX_TRIED], context)
        try:
            return await _exchange(target, request, body, rules.max_bytes, reader, writer)
        except (OSError, h11.RemoteProtocolError) as error:
            raise FetchError(f"{target.authority} did not answer properly: {error}") from None
        finally:
            writer.transport.abort()  # the server may take forever to close its side

    def _context(self, rules: FetchRules) -> ssl.SSLContext:
        """Return the TLS context. That of the system is kept, because it takes 90 ms to load."""
        if rules.authorities is not None:
            return _new_context(rules.authorities)
        if self._system is None:
            self._system = _new_context(None)
        return self._system


def _attributes(target: Target, method: str) -> Attributes:
    return {
        "http.request.method": method,
        "server.address": target.host,
        "server.port": target.port,
    }


def _new_context(authorities: Path | None) -> ssl.SSLContext:
    try:
        pem = None if authorities is None else _read(authorities, _MAX_AUTHORITIES).decode()
        if pem is not None and not pem.strip():
            raise ValueError("empty")
        context = ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise FetchError(f"{authorities} has no certificates in PEM") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _authorization(rules: FetchRules) -> str:
    """Return the value of the header `Authorization` that the rules add; empty: none."""
    if rules.bearer_token is None:
        return ""
    return f"Bearer {await asyncio.to_thread(_token, rules.bearer_token)}"


def _authorized(headers: dict[str, str], authorization: str) -> dict[str, str]:
    """Return headers with the value of `Authorization`, if there is one."""
    return {**headers, "Authorization": authorization} if authorization else headers


def _token(path: Path) -> str:
    token = _read(path, _MAX_TOKEN).strip()
    if not _TOKEN.fullmatch(token):
        raise FetchError(f"{path} has no bearer token (RFC 6750, section 2.1)")
    return token.decode()


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise FetchError(f"{path} can't be read: {error.strerror}") from None


async def _connect(
    target: Target, addresses: Sequence[Address], context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that accepts, and shake hands with the host of the target."""
    failures = []
    for number, address in enumerate(addresses, 1):
        try:
            async with asyncio.timeout(_CONNECT if number < len(addresses) else None):
                return await asyncio.open_connection(
                    str(address),
                    target.port,
                    ssl=context,
                    server_hostname=target.host if context is not None else None,
                )
        except OSError as error:  # also TimeoutError and failures of TLS
            failures.append(f"{address}: {str(error) or type(error).__name__}")
    raise FetchError(f"no connection to {target.authority}: {'; '.join(failures)}")


def _request(target: Target, method: str, headers: Mapping[str, str], body: bytes | None) -> h11.Request:
    sent = [
        ("Host", target.authority),
        ("User-Agent", "token-service"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        *context_headers(),
        *headers.items(),
    ]
    if body is not None:
        sent.append(("Content-Length", str(len(body))))
    return h11.Request(method=method, target=target.path, headers=sent)


async def _exchange(
    target: Target,
    request: h11.Request,
    sent: bytes | None,
    limit: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    parts = [request, *([] if sent is None else [h11.Data(sent)]), h11.EndOfMessage()]
    writer.write(b"".join(connection.send(part) or b"" for part in parts))
    await writer.drain()
    status = 0
    received = 0
    body = bytearray()
    cache_control = age = retry_after = ""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
        if event is h11.NEED_DATA:
            data = await reader.read(_BLOCK)
            received += len(data)
            if received > _MAX_RECEIVED:
                raise FetchError(f"{target.authority} answered with more than {_MAX_RECEIVED} bytes")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            _require_plain(target, event)
            status = event.status_code
            cache_control = _header(event, b"cache-control")
            age = _header(event, b"age")
            retry_after = _header(event, b"retry-after")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise FetchError(f"{target.authority} answered with a document of more than {limit} bytes")
    return Answer(bytes(body), cache_control, age, status, retry_after)


def _require_plain(target: Target, response: h11.Response) -> None:
    """Refuse an answer that is not the document itself."""
    if 300 <= response.status_code < 400:
        raise FetchError(
            f"{target.authority} answered with a redirect ({response.status_code}), which is not followed"
        )
    if _header(response, b"content-encoding") not in {"", "identity"}:
        raise FetchError(f"{target.authority} answered with a content encoding that was not asked for")


def _authority(url: str) -> str:
    return Target.parse(url, allow_private=True).authority


def _header(response: h11.Response, name: bytes) -> str:
    """Return all values of a header, separated by commas."""
    return ", ".join(value.decode("latin-1") for key, value in response.headers if key == name)

"""HTTP GET to hosts that others name: bounded, without redirects, only to checked addresses."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h11

from token_service.fetching.addresses import Address, Target, permitted
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.failure import FetchError
from token_service.fetching.resolving import Resolve, SystemResolver
from token_service.files import read_regular
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


class HttpFetcher:
    """Fetches small documents. All sources of keys of a node share one fetcher and its limits."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._resolve = resolve or SystemResolver()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._system: ssl.SSLContext | None = None

    async def get(self, url: str, rules: FetchRules) -> Answer:
        """Return the answer to a GET, whose body has at most `rules.max_bytes`. The caller limits the time.

        Resolves the host, checks its addresses and connects to a checked address, so that a second look-up can't lead
        elsewhere (DNS rebinding). TLS verifies the name of the host. Proxies of the environment are not used, because a
        proxy would resolve the name again. Raises `FetchError`.
        """
        try:
            target = Target.parse(url, allow_private=rules.allow_private)
        except UnusableValueError as error:
            raise FetchError(f"the URL of the document can't be used: {error}") from None
        async with self._slots:
            context = await asyncio.to_thread(self._context, rules) if target.is_tls else None
            token = await asyncio.to_thread(_token, rules.bearer_token) if rules.bearer_token else ""
            found = await self._resolve(target.host, target.port)
            addresses = permitted(target, found, allow_private=rules.allow_private)
            reader, writer = await _connect(target, addresses[:_MAX_TRIED], context)
            try:
                return await _exchange(target, token, rules.max_bytes, reader, writer)
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


async def _exchange(
    target: Target, token: str, limit: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Answer:
    headers = [
        ("Host", target.authority),
        ("User-Agent", "token-service"),
        ("Accept", "application/jwk-set+json, application/json"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    if token:
        headers.append(("Authorization", f"Bearer {token}"))
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=target.path, headers=headers)
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    received = 0
    body = bytearray()
    cache_control = age = ""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
        if event is h11.NEED_DATA:
            data = await reader.read(_BLOCK)
            received += len(data)
            if received > _MAX_RECEIVED:
                raise FetchError(f"{target.authority} answered with more than {_MAX_RECEIVED} bytes")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            _require_plain(target, event)
            cache_control = _header(event, b"cache-control")
            age = _header(event, b"age")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise FetchError(f"{target.authority} answered with a document of more than {limit} bytes")
    return Answer(bytes(body), cache_control, age)


def _require_plain(target: Target, response: h11.Response) -> None:
    """Refuse an answer that is not the document itself."""
    if 300 <= response.status_code < 400:
        raise FetchError(
            f"{target.authority} answered with a redirect ({response.status_code}), which is not followed"
        )
    if response.status_code != 200:
        raise FetchError(f"{target.authority} answered with status {response.status_code}")
    if _header(response, b"content-encoding") not in {"", "identity"}:
        raise FetchError(f"{target.authority} answered with a content encoding that was not asked for")


def _header(response: h11.Response, name: bytes) -> str:
    """Return all values of a header, separated by commas."""
    return ", ".join(value.decode("latin-1") for key, value in response.headers if key == name)

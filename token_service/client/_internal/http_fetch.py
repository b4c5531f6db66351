"""HTTP requests by the standard library, bounded in time and size."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from token_service.client._internal.keys import MAX_JWKS_BYTES


def fetch_over_http(url: str, timeout: float) -> bytes:
    """Return the body of a GET, cut off after `MAX_JWKS_BYTES`.

    Raises `OSError` or `ValueError`; `TimeoutError` if the response is not complete after `timeout` seconds in
    total. The system's limits apply to the look-up of the host name. Follows no redirect: the server of the
    issuer's URL may not delegate to another server.
    """
    _require_http(url)
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  # checked above
    deadline = time.monotonic() + timeout
    try:
        with _open(request, timeout, deadline, None) as response:
            data: bytes = response.read(MAX_JWKS_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return data


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP response."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    """`Retry-After` in seconds; None: absent, or a date."""
    dpop_nonce: str | None = field(default=None, repr=False)
    """`DPoP-Nonce` (RFC 9449, section 8.1)."""


def post_form(
    url: str, form: bytes, headers: Mapping[str, str], timeout: float, limit: int, tls: ssl.SSLContext | None
) -> HttpAnswer:
    """Return the response to a POST of a form, whatever its status. Its body has at most `limit` bytes.

    Raises `OSError` or `ValueError` as `fetch_over_http` does. Follows no redirect either, because the form may have
    secrets.
    """
    _require_http(url)
    headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    request = Request(url, form, headers, method="POST")  # noqa: S310  # checked above
    deadline = time.monotonic() + timeout
    try:
        with _open(request, timeout, deadline, tls) as response:
            return _answer(response, limit)
    except HTTPError as error:
        with error:
            return _answer(error, limit)
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _require_http(url: str) -> None:
    if not url.startswith(("https://", "http://")):
        raise ValueError("not an HTTP URL")


def _open(request: Request, timeout: float, deadline: float, tls: ssl.SSLContext | None) -> Any:
    opener = build_opener(_Http(deadline), _Https(deadline, tls), _NoRedirect)
    return opener.open(request, timeout=timeout)


def _answer(response: Any, limit: int) -> HttpAnswer:
    body = response.read(limit + 1)
    if len(body) > limit:
        raise ValueError(f"the response has more than {limit} bytes")
    after = response.headers.get("Retry-After", "")
    return HttpAnswer(
        response.status,
        body,
        float(after) if after.isdecimal() and len(after) < 10 else None,
        response.headers.get("DPoP-Nonce"),
    )


class _NoRedirect(HTTPRedirectHandler):
    """Handler that turns a redirect into an HTTP error."""

    def _refuse(self, *_: object) -> None:
        return None

    http_error_301 = http_error_302 = http_error_303 = http_error_307 = http_error_308 = _refuse  # type: ignore[assignment]


class _Http(HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_connection(HTTPConnection, self._deadline), req)


class _Https(HTTPSHandler):
    def __init__(self, deadline: float, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._deadline = deadline
        self._tls = tls

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_connection(HTTPSConnection, self._deadline), req, context=self._tls)


def _connection(kind: type[HTTPConnection], deadline: float) -> Any:
    """Return a factory of connections that read until the deadline only."""

    def connect(host: str, **options: Any) -> HTTPConnection:
        connection = kind(host, **options)
        connection.response_class = respond  # type: ignore[assignment]  # called as the class would be
        return connection

    def respond(sock: socket.socket, *args: Any, **options: Any) -> HTTPResponse:
        response = HTTPResponse(sock, *args, **options)
        response.fp = io.BufferedReader(_UntilDeadline(response.fp.detach(), sock, deadline))
        return response

    return connect


class _UntilDeadline(io.RawIOBase):
    """Socket stream whose reads share one deadline.

    A socket timeout covers one read, so a server that sends single bytes in time would never exceed it.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response was not complete in time")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()

"""HTTP GET by the standard library, bounded in time and size."""

from __future__ import annotations

import io
import socket
import time
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
    if not url.startswith(("https://", "http://")):
        raise ValueError("not an HTTP URL")
    deadline = time.monotonic() + timeout
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  # checked above
    opener = build_opener(_Http(deadline), _Https(deadline), _NoRedirect)
    try:
        with opener.open(request, timeout=timeout) as response:
            data: bytes = response.read(MAX_JWKS_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return data


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
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_connection(HTTPSConnection, self._deadline), req)


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

"""Reading requests and sending responses in ASGI, for the endpoints of the backend-for-frontend."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_QUERY: Final = 8 * 1024
"""Characters of the query of an endpoint."""
MAX_FORM: Final = 16 * 1024
"""Bytes of a form."""
MAX_FIELDS: Final = 20
"""Fields of a query or a form."""
_POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1
_TRY_AGAIN_LATER: Final = 1013
_ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class BadRequestError(Exception):
    """A request that is refused as a whole. The text tells why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the backend-for-frontend itself."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    cookies: tuple[str, ...] = field(default=(), repr=False)


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header; None if it is missing. Raises `BadRequestError` if there is more than one."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise BadRequestError(f"more than one {name.decode()} header")
    return found[0].decode("latin-1") if found else None


def query(scope: Scope) -> dict[str, str]:
    """Return the parameters of the query, each named once. Raises `BadRequestError`."""
    text = scope.get("query_string", b"")
    if len(text) > MAX_QUERY:
        raise BadRequestError(f"the query is longer than {MAX_QUERY} characters")
    return _fields(text)


async def form(scope: Scope, receive: Receive) -> dict[str, str]:
    """Read a form, each field named once. Raises `BadRequestError`."""
    kind = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise BadRequestError("the content type is not application/x-www-form-urlencoded")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequestError("the request was not complete")
        body += message.get("body", b"")
        if len(body) > MAX_FORM:
            raise BadRequestError(f"the form is longer than {MAX_FORM} bytes")
        if not message.get("more_body", False):
            return _fields(bytes(body))


def _fields(data: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            data.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError:
        raise BadRequestError(f"not urlencoded, or more than {MAX_FIELDS} fields") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequestError("a field is named twice")
    return fields


def redirect(url: str, *cookies: str) -> Response:
    """Return a redirect, which browsers follow with GET (RFC 9700, section 4.12)."""
    return Response(303, headers=((b"location", url.encode("ascii")),), cookies=cookies)


def json_response(status: int, content: Mapping[str, Any], *cookies: str, retry_after: float = 0) -> Response:
    """Return a JSON object."""
    return Response(
        status,
        json.dumps(content).encode(),
        ((b"content-type", b"application/json"), *_retry(retry_after)),
        cookies,
    )


def page(status: int, text: str, link: str, label: str, *cookies: str, retry_after: float = 0) -> Response:
    """Return a page with one sentence and one link."""
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Login</title>'
        f'<p>{escape(text)}</p><p><a href="{escape(link)}">{escape(label)}</a></p></html>'
    )
    return Response(
        status, body.encode(), ((b"content-type", b"text/html; charset=utf-8"), *_retry(retry_after)), cookies
    )


def onward_page(url: str, *cookies: str) -> Response:
    """Return a page that leads on to `url` by itself.

    The navigation then comes from this site, so the browser sends a cookie with `SameSite=Strict`. It would send none
    after a redirect that belongs to the provider's navigation.
    """
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Login</title>'
        f'<meta http-equiv="refresh" content="0;url={escape(url)}">'
        f'<p><a href="{escape(url)}">Continue</a></p></html>'
    )
    return Response(200, body.encode(), ((b"content-type", b"text/html; charset=utf-8"),), cookies)


def text_response(status: int, text: str, *, retry_after: float = 0) -> Response:
    """Return a line of text."""
    return Response(
        status,
        text.encode(),
        ((b"content-type", b"text/plain; charset=utf-8"), *_retry(retry_after)),
    )


async def respond(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Send a response to a request, or to the handshake of a WebSocket."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            # The server turns this into a 403.
            code = _TRY_AGAIN_LATER if response.status == 503 else _POLICY_VIOLATION
            await send({"type": "websocket.close", "code": code})
            return
        prefix = "websocket.http"
    else:
        prefix = "http"
    headers = [
        *response.headers,
        *_ALWAYS,
        (b"content-length", str(len(response.body)).encode()),
        *((b"set-cookie", cookie.encode("ascii")) for cookie in response.cookies),
    ]
    await send({"type": f"{prefix}.response.start", "status": response.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": response.body})


def _retry(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(max(1, round(seconds))).encode()),) if seconds else ()

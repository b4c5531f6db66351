"""The ASGI and the WSGI middleware behind one function, without a server or a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

from tests.support.token_mint import AUDIENCE, Mint
from token_service.client._internal.counters import Counters
from token_service.client.asgi import BearerAuthMiddleware
from token_service.client.wsgi import BearerAuthWsgiMiddleware, current_claims
from token_service.errors import ReplicaStaleError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import IssuerRules, Verifier, check_audience, check_scopes, check_times

KINDS: Final = ("asgi", "wsgi")
Headers = Iterable[tuple[str, str]]


class Judge:
    """A validator without revocations."""

    def __init__(self, mint: Mint) -> None:
        self.counters = Counters()
        self.is_stale = False
        self._verifier = Verifier(
            [(IssuerRules(mint.issuer, frozenset(Algorithm)), KeySet.from_jwks([mint.jwk]))]
        )

    def validate(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims:
        if self.is_stale:
            raise ReplicaStaleError("tokens.internal:50051 does not answer")
        claims = self._verifier.verify(token)
        check_times(claims, time.time())
        check_audience(claims, AUDIENCE if audience is None else audience)
        check_scopes(claims, required_scopes)
        return claims


class AioJudge(Judge):
    """The same for an event loop."""

    async def validate(  # type: ignore[override]
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims:
        return super().validate(token, audience=audience, required_scopes=required_scopes)


@dataclass(frozen=True)
class Answer:
    """The response to a request. The application answers with the subject, or with `public`."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for each, value in self.headers if each.lower() == name]

    @property
    def error(self) -> str | None:
        """The error in `WWW-Authenticate`; None: it has none."""
        for value in self.values("www-authenticate"):
            if 'error="' in value:
                return value.split('error="')[1].split('"')[0]
        return None


def subject() -> str:
    """Return what the application answers."""
    try:
        return current_claims().subject
    except LookupError:
        return "public"


async def ask(
    kind: str,
    mint: Mint,
    target: str = "/orders",
    headers: Headers = (),
    *,
    method: str = "GET",
    peer: str = "203.0.113.9",
    certificate: str = "",
    host: str = "api.example",
    root: str = "",
    judge: Judge | None = None,
    middleware: Callable[..., Any] | None = None,
    **options: Any,
) -> Answer:
    """Send a request through a new middleware, or through `middleware`."""
    headers = [("host", host), *headers]
    if kind == "asgi":
        served = middleware or asgi(mint, judge, **options)
        return await _ask_asgi(served, target, headers, method, peer, certificate, root)
    served = middleware or wsgi(mint, judge, **options)
    return _ask_wsgi(served, target, headers, method, peer, certificate, root)


def made(kind: str, mint: Mint, judge: Judge | None = None, **options: Any) -> Callable[..., Any]:
    """Return a middleware in front of the application."""
    return asgi(mint, judge, **options) if kind == "asgi" else wsgi(mint, judge, **options)


def judge_for(kind: str, mint: Mint) -> Judge:
    """Return a validator for the kind of middleware."""
    return AioJudge(mint) if kind == "asgi" else Judge(mint)


def asgi(mint: Mint, judge: Judge | None = None, *, app: Any = None, **options: Any) -> BearerAuthMiddleware:
    """Return the ASGI middleware in front of `app`, or of an application that answers with the subject."""

    async def own(scope: Any, receive: Any, send: Any) -> None:
        assert scope.get("token_claims") is None or scope["token_claims"].subject == subject()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": subject().encode()})

    return BearerAuthMiddleware(app or own, judge or AioJudge(mint), **options)  # type: ignore[arg-type]


def wsgi(
    mint: Mint, judge: Judge | None = None, *, app: Any = None, **options: Any
) -> BearerAuthWsgiMiddleware:
    """Return the WSGI middleware in front of `app`, or of an application that answers with the subject."""

    def own(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return (subject().encode() for _ in range(1))

    return BearerAuthWsgiMiddleware(app or own, judge or Judge(mint), **options)  # type: ignore[arg-type]


async def _ask_asgi(
    app: Any,
    target: str,
    headers: list[tuple[str, str]],
    method: str,
    peer: str,
    certificate: str,
    root: str,
) -> Answer:
    path = target.partition("?")[0]
    scope = {
        "type": "http",
        "method": method,
        "path": root + unquote(path),
        "raw_path": (root + path).encode(),
        "root_path": root,
        "query_string": target.partition("?")[2].encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": (peer, 1234) if peer else None,
        "extensions": {"tls": {"client_cert_chain": [certificate] if certificate else []}},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(
        sent[0]["status"],
        [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]],
        b"".join(message.get("body", b"") for message in sent).decode(),
    )


def _ask_wsgi(
    app: Any,
    target: str,
    headers: list[tuple[str, str]],
    method: str,
    peer: str,
    certificate: str,
    root: str,
) -> Answer:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": root,
        "PATH_INFO": unquote_to_bytes(target.partition("?")[0]).decode("latin-1"),
        "RAW_URI": root + target,
        "QUERY_STRING": target.partition("?")[2],
        "REMOTE_ADDR": peer,
    }
    if certificate:
        environ["SSL_CLIENT_CERT"] = certificate
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    started: list[Any] = []
    chunks = app(environ, lambda status, headers: started.append((status, headers)))
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    status, answered = started[0]
    return Answer(int(status.split(" ")[0]), answered, body.decode())

"""WSGI middleware that requires a valid access token for each request whose path is not public (RFC 6750, RFC 9449).

    app.wsgi_app = BearerAuthWsgiMiddleware(app.wsgi_app, validator, scopes={"/orders": ["orders:read"]}, public=["/healthz"])

The application reads the claims from `environ["token_service.claims"]` or `current_claims()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from token_service.client._internal.bearer import CLAIMS, current_claims
from token_service.client._internal.http_gate import DOCUMENT_HEADERS, HttpGate, is_preflight
from token_service.client._internal.http_refusals import Refusal
from token_service.client._internal.http_request import BadRequestError, HttpRequest
from token_service.client._internal.request_path import readings
from token_service.client._internal.route_rules import Route, RouteRules
from token_service.client._internal.transaction import TRANSACTION, Transaction
from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.client.resource_metadata import ResourceMetadata
from token_service.client.sync_validator import SyncTokenValidator
from token_service.errors import InvalidTokenError, ServiceError
from token_service.tokens.claims import VerifiedClaims

__all__ = ["BearerAuthWsgiMiddleware", "current_claims"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_ENVIRON_CLAIMS: Final = "token_service.claims"
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class BearerAuthWsgiMiddleware:
    """Middleware as `BearerAuthMiddleware`, with the same rules, for applications that run in threads.

    The client certificate of a token that is bound to one comes from `SSL_CLIENT_CERT`, which servers that end TLS set, or
    from a trusted proxy. The server must drop headers whose names have underscores, as gunicorn, mod_wsgi and werkzeug do.
    """

    def __init__(
        self,
        app: App,
        validator: SyncTokenValidator,
        *,
        scopes: Mapping[str, Collection[str] | Requirements] | None = None,
        default_scopes: Collection[str] | Requirements = (),
        public: Collection[str] = (),
        audience: str | None = None,
        realm: str = "",
        resource_metadata: ResourceMetadata | str | None = None,
        proofs: ProofRules | None = None,
        allow_bound_tokens: bool = False,
        pass_preflight: bool = False,
        trust_domain: str = "",
    ) -> None:
        """Configure the rules as those of `BearerAuthMiddleware`."""
        self._app = app
        self._validator = validator
        self._rules = RouteRules(scopes or {}, default_scopes, public, trust_domain or audience)
        self._pass_preflight = pass_preflight
        self._gate = HttpGate(
            realm=realm,
            resource_metadata=resource_metadata,
            proofs=proofs,
            allow_bound_tokens=allow_bound_tokens,
            trust_domain=trust_domain,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        gate = self._gate
        method = str(environ["REQUEST_METHOD"])
        paths = readings(_scope_of(environ))
        if gate.document is not None and gate.asks_for_document(method, paths):
            return _answer(environ, start_response, 200, DOCUMENT_HEADERS, gate.document)
        claims: VerifiedClaims | None = None
        transaction: Transaction | None = None
        route: Route | None = None
        try:
            route = self._rules.route(method, paths)
            if route is not None and not (
                self._pass_preflight and is_preflight(method, partial(_header, environ))
            ):
                claims, transaction = self._check(environ, route)
        except (BadRequestError, InvalidTokenError, ServiceError) as error:
            refusal = gate.refuse(error, route.requirements if route else None)
            return _refuse(environ, start_response, refusal)
        if claims is not None:
            environ[_ENVIRON_CLAIMS] = claims
        # Set for public requests, too: the thread may still have the claims of a response that was never closed.
        CLAIMS.set(claims)
        TRANSACTION.set(transaction)
        try:
            chunks = self._app(environ, start_response)
        except BaseException:
            _forget()
            raise
        if isinstance(chunks, list | tuple) or _is_file(chunks, environ):
            _forget()
            return chunks
        return _Response(chunks)

    def _check(self, environ: Environ, route: Route) -> tuple[VerifiedClaims, Transaction | None]:
        token, scheme = self._gate.credentials(partial(_header, environ))
        claims = self._validator.validate(token, audience=route.audience, required_scopes=route.scopes)
        transaction = self._gate.transaction(token, claims)
        self._gate.admit(claims, token, scheme, route.more, environ, _http_request, self._validator)
        return claims, transaction


def _forget() -> None:
    """Forget the request that this thread has served."""
    CLAIMS.set(None)
    TRANSACTION.set(None)


class _Response:
    """The response of the application. `current_claims` works while its chunks are made."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            _forget()


def _is_file(chunks: Iterable[bytes], environ: Environ) -> bool:
    """Return whether the server may send the response as a file, which it knows by the type (PEP 3333)."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(chunks, wrapper)


def _scope_of(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the path of a request as ASGI describes it."""
    root = _decoded(environ.get("SCRIPT_NAME", ""))
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")  # gunicorn and werkzeug; mod_wsgi and uWSGI
    return {
        "path": root + _decoded(environ.get("PATH_INFO", "")) or "/",
        "root_path": root,
        "raw_path": None if raw is None else _target(raw).encode("latin-1", "replace"),
    }


def _decoded(text: str) -> str:
    """Return a text that PEP 3333 hands over as bytes in latin-1. Bytes that are not UTF-8 become replacements."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _target(raw: str) -> str:
    """Return the path of a request target, which may begin with an origin (RFC 9112, section 3.2.2)."""
    match = _ORIGIN.match(raw)
    path = raw if match is None else raw[match.end() :]
    return path.partition("?")[0] or "/"


def _http_request(environ: MutableMapping[str, Any]) -> HttpRequest:
    scope = _scope_of(environ)
    raw = scope["raw_path"]
    return HttpRequest(
        method=environ["REQUEST_METHOD"],
        path=quote(scope["path"]) if raw is None else raw.decode("latin-1"),
        # Servers set it, empty for a unix socket. An adapter of ASGI omits it for a client that has reset its connection.
        peer=environ.get("REMOTE_ADDR", "unknown"),
        certificate=environ.get("SSL_CLIENT_CERT") or "",
        header=partial(_header, environ),
    )


def _header(environ: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a header that has no list: servers join several ones with commas."""
    value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
    return [] if value is None else value.split(",")


def _refuse(environ: Environ, start_response: StartResponse, refusal: Refusal) -> list[bytes]:
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"), *refusal.headers)
    return _answer(environ, start_response, refusal.status, headers, refusal.body.encode())


def _answer(
    environ: Environ,
    start_response: StartResponse,
    status: int,
    headers: Collection[tuple[str, str]],
    body: bytes,
) -> list[bytes]:
    start_response(f"{status} {HTTPStatus(status).phrase}", [("content-length", str(len(body))), *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

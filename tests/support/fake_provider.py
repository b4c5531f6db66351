"""A strict OpenID provider over HTTP on loopback, whose failures a test chooses.

It refuses what the standards forbid a client to send, so a test of a client fails at the first wrong request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt

from tests.support.token_mint import Mint

CLIENT_ID: Final = "web app"  # a space, which client_secret_basic has to encode
CLIENT_SECRET: Final = "s3cret:+/%&=" + "x" * 20
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class Family:
    """The tokens of one login."""

    subject: str
    sid: str
    refresh_token: str = ""
    superseded: dict[str, str] = field(default_factory=dict)
    """Refresh tokens that were used, with their successors."""
    revoked: bool = False
    refreshing: int = 0
    refreshes: int = 0


class FakeProvider:
    """The provider. Attributes may be changed at any time."""

    def __init__(self, redirect_uri: str, post_logout_redirect_uri: str = "") -> None:
        self.redirect_uri = redirect_uri
        self.post_logout_redirect_uri = post_logout_redirect_uri
        self.clock: Callable[[], float] = time.time
        self.subject = "alice"
        self.sid = "sid-1"
        self.access_lifetime = 300
        self.rotates = True
        self.accepts_retries = True
        """Whether a superseded refresh token gets the same successor again, as in the token service."""
        self.gives_refresh_tokens = True
        self.shows_page = False
        """Whether a page of the provider leads back to the client, as after a password, instead of a redirect."""
        self.down = False
        self.loses_answers = 0
        """The next answers of the token endpoint that never arrive, although the provider has changed its state."""
        self.refresh_gate = threading.Event()
        """A refresh waits for it."""
        self.refresh_gate.set()
        self.id_token_changes: dict[str, Any] = {}
        self.refresh_id_token_changes: dict[str, Any] = {}
        self.metadata_changes: dict[str, Any] = {}
        self.answer_changes: dict[str, str | None] = {}
        """Changes to parameters of authorization responses."""
        self.client_key: Any = None
        """The public key of a client that authenticates with private_key_jwt."""
        self.mint = Mint("ES256", "provider")
        self.issued: set[str] = set()
        """All tokens and codes that may never reach a browser; codes do."""
        self.complaints: list[str] = []
        self.requests: Counter[str] = Counter()
        self.origins: list[tuple[str | None, str | None, str | None]] = []
        """`X-Forwarded-For`, `X-Forwarded-Proto` and `User-Agent` of each request to the token endpoint."""
        self.demands_authentication = False
        """Whether a refresh is refused until the user logs in again (RFC 9470)."""
        self.concurrent_refreshes = 0
        """The most refreshes of one login at the same time."""
        self.families: list[Family] = []
        self._codes: dict[str, tuple[dict[str, str], Family | None]] = {}
        self._pushed: dict[str, dict[str, str]] = {}
        self._used_assertions: set[str] = set()
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.mint.issuer = self.issuer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh_gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def id_token(self, family: Family, **changes: Any) -> str:
        """Return an ID token."""
        now = self.clock()
        return self.mint.token(
            now,
            {"typ": "JWT"},
            **{
                "aud": CLIENT_ID, "sub": family.subject, "sid": family.sid, "name": "Alice", "email": "a@x.test",
                "client_id": ..., "rev": ..., "scope": ..., "nbf": ..., **changes,
            },
        )  # fmt: skip

    def logout_token(self, /, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a logout token for the sid."""
        now = self.clock()
        return self.mint.token(
            now,
            {"typ": "logout+jwt", **(header or {})},
            **{
                "aud": CLIENT_ID, "sub": self.subject, "sid": self.sid, "events": {LOGOUT_EVENT: {}},
                "exp": int(now) + 120, "client_id": ..., "rev": ..., "scope": ..., "nbf": ..., **changes,
            },
        )  # fmt: skip

    def metadata(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/end_session",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "pushed_authorization_request_endpoint": f"{self.issuer}/par",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
            "authorization_response_iss_parameter_supported": True,
            **self.metadata_changes,
        }
        return {name: value for name, value in document.items() if value is not ...}

    # The endpoints return status, body and headers; None: the connection closes without an answer.

    def authorize(self, fields: dict[str, str]) -> _Reply:
        if "request_uri" in fields:
            _require(fields.keys() == {"client_id", "request_uri"}, "a pushed request has other parameters")
            fields = self._pushed.pop(fields["request_uri"])
        else:
            _require(not self.metadata().get("require_pushed_authorization_requests"), "not pushed")
        self._check_request(fields)
        code = f"code-{secrets.token_urlsafe(16)}"
        with self._lock:
            self._codes[code] = (fields, None)
        answer = {"code": code, "state": fields["state"], "iss": self.issuer} | self.answer_changes
        query = urlencode({name: value for name, value in answer.items() if value is not None})
        url = f"{self.redirect_uri}?{query}"
        if self.shows_page:
            page = f"<script>location = {json.dumps(url)}</script>".encode()
            return 200, page, {"Content-Type": "text/html"}
        return 303, b"", {"Location": url}

    def push(self, fields: dict[str, str]) -> _Reply:
        self._check_request(fields)
        request_uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe(8)}"
        self._pushed[request_uri] = fields
        return _json(201, {"request_uri": request_uri, "expires_in": 60})

    def _check_request(self, fields: dict[str, str]) -> None:
        _require(fields.get("client_id") == CLIENT_ID, "wrong client_id")
        _require(fields.get("response_type") == "code", "wrong response_type")
        _require(fields.get("redirect_uri") == self.redirect_uri, "wrong redirect_uri")
        _require("openid" in fields.get("scope", "").split(), "no openid")
        _require(fields.get("code_challenge_method") == "S256", "no PKCE with S256")
        for name in ("state", "nonce", "code_challenge"):
            _require(len(fields.get(name, "")) >= 43, f"a weak {name}")
        _require(
            len({fields[name] for name in ("state", "nonce", "code_challenge")}) == 3, "one secret twice"
        )

    def token(self, fields: dict[str, str]) -> _Reply:
        if fields.get("grant_type") == "authorization_code":
            return self._redeem(fields)
        _require(fields.get("grant_type") == "refresh_token", "unknown grant_type")
        return self._refresh(fields)

    def _redeem(self, fields: dict[str, str]) -> _Reply:
        with self._lock:
            if fields["code"] not in self._codes:
                return _json(400, {"error": "invalid_grant"})
            asked, family = self._codes[fields["code"]]
            if family is not None:
                family.revoked = True  # RFC 6749, section 4.1.2
                self.complaints.append("a code was used twice")
                return _json(400, {"error": "invalid_grant"})
            _require(fields.get("redirect_uri") == asked["redirect_uri"], "another redirect_uri")
            digest = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            _require(challenge == asked["code_challenge"], "wrong code_verifier")
            family = Family(self.subject, self.sid)
            self.families.append(family)
            self._codes[fields["code"]] = (asked, family)
            return self._issue(family, {"nonce": asked["nonce"], **self.id_token_changes})

    def _refresh(self, fields: dict[str, str]) -> _Reply:
        token = fields.get("refresh_token", "")
        if self.demands_authentication:
            return _json(400, {"error": "insufficient_user_authentication", "max_age": 300})
        with self._lock:
            families = [
                each for each in self.families if token == each.refresh_token or token in each.superseded
            ]
            if not families or families[0].revoked:
                return _json(400, {"error": "invalid_grant"})
            family = families[0]
            family.refreshing += 1
            self.concurrent_refreshes = max(self.concurrent_refreshes, family.refreshing)
        try:
            assert self.refresh_gate.wait(60)
            with self._lock:
                if token in family.superseded:
                    if not self.accepts_retries:
                        family.revoked = True
                        self.complaints.append("a refresh token was used twice")
                        return _json(400, {"error": "invalid_grant"})
                    family.refresh_token = family.superseded[token]
                family.refreshes += 1
                return self._issue(family, self.refresh_id_token_changes, retried=token in family.superseded)
        finally:
            with self._lock:
                family.refreshing -= 1

    def _issue(self, family: Family, changes: dict[str, Any], *, retried: bool = False) -> _Reply:
        answer: dict[str, Any] = {
            "access_token": f"at-{secrets.token_urlsafe(24)}",
            "token_type": "Bearer",
            "expires_in": self.access_lifetime,
            "id_token": self.id_token(family, **changes),
        }
        if self.gives_refresh_tokens:
            if self.rotates and not retried:
                successor = f"rt-{secrets.token_urlsafe(24)}"
                if family.refresh_token:
                    family.superseded[family.refresh_token] = successor
                family.refresh_token = successor
            answer["refresh_token"] = family.refresh_token or f"rt-{secrets.token_urlsafe(24)}"
            family.refresh_token = answer["refresh_token"]
        self.issued |= {
            answer[name] for name in answer.keys() & {"access_token", "refresh_token", "id_token"}
        }
        if self.loses_answers:
            self.loses_answers -= 1
            return None
        return _json(200, answer)

    def revoke(self, fields: dict[str, str]) -> _Reply:
        with self._lock:
            for family in self.families:
                if fields["token"] in {family.refresh_token, *family.superseded}:
                    family.revoked = True
        return 200, b"", {}

    def end_session(self, fields: dict[str, str]) -> _Reply:
        _require(
            fields.get("post_logout_redirect_uri") == self.post_logout_redirect_uri, "wrong redirect URI"
        )
        _require(fields.get("client_id") == CLIENT_ID, "wrong client_id")
        return 303, b"", {"Location": self.post_logout_redirect_uri}

    def authenticate(self, fields: dict[str, str], authorization: str | None) -> None:
        """Check the proof of the client, of which there must be one."""
        if authorization is not None:
            _require("client_assertion" not in fields and "client_secret" not in fields, "two proofs")
            scheme, _, text = authorization.partition(" ")
            _require(scheme == "Basic", "not Basic")
            pair = base64.b64decode(text, validate=True).decode()
            name, _, secret = pair.partition(":")
            _require((unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET), "wrong secret")
            return
        _require(fields.get("client_id") == CLIENT_ID, "wrong client_id")
        claims = jwt.decode(
            fields["client_assertion"], self.client_key, ["ES256"], audience=self.issuer, issuer=CLIENT_ID,
            options={"require": ["exp", "jti", "sub"], "strict_aud": True, "verify_iat": False, "verify_exp": False},
        )  # fmt: skip
        _require(self.clock() < claims["exp"] <= self.clock() + 300, "a long or expired assertion")
        _require(claims["sub"] == CLIENT_ID, "wrong sub")
        with self._lock:
            _require(claims["jti"] not in self._used_assertions, "an assertion was used twice")
            self._used_assertions.add(claims["jti"])


_Reply = tuple[int, bytes, dict[str, str]] | None


class _RefusedError(Exception):
    pass


def _require(condition: object, complaint: str) -> None:
    if not condition:
        raise _RefusedError(complaint)


def _json(status: int, content: dict[str, Any]) -> _Reply:
    return (
        status,
        json.dumps(content).encode(),
        {"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its connection
    request_queue_size = 64


def _handler(provider: FakeProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            endpoint = {
                "/.well-known/openid-configuration": lambda _: _json(200, provider.metadata()),
                "/jwks": lambda _: _json(200, {"keys": [provider.mint.jwk]}),
                "/authorize": provider.authorize,
                "/end_session": provider.end_session,
            }
            self._answer(endpoint, urlsplit(self.path).query)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
            _, question, _ = self.path.partition("?")
            assert not question, "parameters in the URL"
            assert self.headers.get_content_type() == "application/x-www-form-urlencoded"
            endpoint = {"/token": provider.token, "/revoke": provider.revoke, "/par": provider.push}
            self._answer(endpoint, body, authenticated=True)

        def _answer(
            self, endpoints: dict[str, Callable[..., Any]], text: str, *, authenticated: bool = False
        ) -> None:
            path = urlsplit(self.path).path
            provider.requests[path] += 1
            if path == "/token":
                given = self.headers
                provider.origins.append(
                    (given["X-Forwarded-For"], given["X-Forwarded-Proto"], given["User-Agent"])
                )
            try:
                pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
                names = [name for name, _ in pairs if name != "resource"]
                _require(len(names) == len(set(names)), "a parameter is repeated")
                _require(not provider.down, "down")
                if authenticated:
                    provider.authenticate(dict(pairs), self.headers["Authorization"])
                reply = endpoints[path](dict(pairs))
            except _RefusedError as error:
                if provider.down:
                    reply = 503, b"", {"Retry-After": "7"}
                else:
                    provider.complaints.append(f"{path}: {error}")
                    reply = _json(400, {"error": "invalid_request"})
            if reply is None:
                self.close_connection = True
                return
            status, body, headers = reply
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler

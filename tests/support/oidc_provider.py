"""A strict OpenID Connect provider on loopback, with one client, which logs in one user without asking."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import httpx
import jwt

from tests.support.token_mint import b64, jwk_of, private_key

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLIENT_ID = "tokens & co"
CLIENT_SECRET = "s3cret:/+ %"
"""Both have characters that `client_secret_basic` encodes."""


@dataclass
class _Code:
    parameters: dict[str, str]
    used: bool = False


class OidcProvider:
    """The provider. A test changes its public attributes to make it answer in another way."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.key = "provider-1"
        """The name of its signing key, which is also its `kid`."""
        self.published = ["provider-1"]
        self.algorithm = "ES256"
        """The algorithm of its keys: ES256, RS256 or EdDSA."""
        self.claims: dict[str, Any] = {"sub": "alice", "sid": "session-1"}
        """Claims of the ID token besides those of the protocol. None removes a claim of the protocol."""
        self.headers: dict[str, Any] = {}
        """Changes of the header of the ID token."""
        self.signing_key: Any = None
        """Signs instead of `key`."""
        self.userinfo: dict[str, Any] = {"sub": "alice"}
        self.metadata: dict[str, Any] = {}
        """Changes of the discovery document."""
        self.answer: dict[str, Any] = {}
        """Changes of the answer of the token endpoint."""
        self.raw: dict[str, tuple[int, bytes]] = {}
        """Status and body of the answer at a path, instead of the right one."""
        self.open = threading.Event()
        """While it is not set, requests get no answer."""
        self.open.set()
        self.requests: list[str] = []
        """The paths asked for."""
        self._codes: dict[str, _Code] = {}
        self._access_tokens: set[str] = set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = parse_qs(body, strict_parsing=True, keep_blank_values=True)
                right = self.headers["Content-Type"] == "application/x-www-form-urlencoded"
                self._answer({name: values[0] for name, values in fields.items()} if right else {})

            def _answer(self, form: dict[str, str]) -> None:
                path = urlsplit(self.path).path
                provider.requests.append(path)
                provider.open.wait()
                if path in provider.raw:
                    status, body = provider.raw[path]
                else:
                    status, document = provider._answer(self.path, form, self.headers["Authorization"] or "")
                    if status == 303:
                        self.send_response(303)
                        self.send_header("Location", str(document))
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "max-age=600")
                self.end_headers()
                self.wfile.write(body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the client has disconnected

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settings(self, secret_file: str, **more: Any) -> dict[str, Any]:
        """Return the settings of an upstream with this provider."""
        return {
            "kind": "oidc",
            "issuer": self.issuer,
            "client_id": CLIENT_ID,
            "client_secret_file": secret_file,
            "private": True,
            **more,
        }

    def log_in(self, url: str) -> str:
        """Return the URL to which the provider sends a browser that comes to `url`."""
        response = httpx.get(url, trust_env=False, timeout=60)
        assert response.status_code == 303, response.text
        return response.headers["location"]

    def asked(self, url: str) -> dict[str, str]:
        """Return the parameters of an authorization request."""
        return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))

    def logout_token(self, *, typ: str | None = "logout+jwt", key: str | None = None, **claims: Any) -> str:
        """Return a logout token; None removes a claim."""
        now = int(self.now())
        body = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": secrets.token_hex(8),
            "events": {LOGOUT_EVENT: {}}, "sid": "session-1", **claims,
        }  # fmt: skip
        return self._sign(body, {"typ": typ}, key or self.key)

    def _answer(self, target: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        parts = urlsplit(target)
        match parts.path:
            case "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
                    "token_endpoint": f"{self.issuer}/token",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "end_session_endpoint": f"{self.issuer}/logout",
                    "authorization_response_iss_parameter_supported": True,
                    **self.metadata,
                }
            case "/jwks":
                keys = [{**jwk_of(private_key(self.algorithm, name)), "kid": name} for name in self.published]
                return 200, {"keys": keys}
            case "/authorize":
                return self._authorize(dict(parse_qsl(parts.query, strict_parsing=True)))
            case "/token":
                return self._token(form, authorization)
            case "/userinfo":
                known = authorization.removeprefix("Bearer ") in self._access_tokens
                return (200, self.userinfo) if known else (401, {"error": "invalid_token"})
        return 404, {}

    def _authorize(self, asked: dict[str, str]) -> tuple[int, Any]:
        right = (
            asked.pop("tenant", "") == "1"
            and asked.get("response_type") == "code"
            and asked.get("client_id") == CLIENT_ID
            and asked.get("code_challenge_method") == "S256"
            and len(asked.get("code_challenge", "")) == 43
            and "openid" in asked.get("scope", "").split(" ")
            and asked.get("state")
            and asked.get("nonce")
        )
        if not right:
            return 400, {"error": "invalid_request"}
        code = secrets.token_urlsafe(16)
        self._codes[code] = _Code(asked)
        answer = {"code": code, "state": asked["state"], "iss": self.issuer}
        return 303, f"{asked['redirect_uri']}?{urlencode(answer)}"

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        scheme, _, credentials = authorization.partition(" ")
        pair = b64decode(credentials or "").decode().split(":") if scheme == "Basic" else []
        if [unquote_plus(each) for each in pair] != [CLIENT_ID, CLIENT_SECRET]:
            return 401, {"error": "invalid_client", "error_description": "<script>alert(1)</script>"}
        code = self._codes.get(form.get("code", ""))
        if code is None or code.used:
            return 400, {"error": "invalid_grant"}
        code.used = True
        asked = code.parameters
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            set(form) != {"grant_type", "code", "redirect_uri", "code_verifier"}
            or form["grant_type"] != "authorization_code"
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        access_token = secrets.token_urlsafe(16)
        self._access_tokens.add(access_token)
        answer = {
            "access_token": access_token, "token_type": "Bearer", "expires_in": 60,
            "id_token": self._id_token(asked, access_token), **self.answer,
        }  # fmt: skip
        return 200, {name: value for name, value in answer.items() if value is not None}

    def _id_token(self, asked: dict[str, str], access_token: str) -> str:
        now = int(self.now())
        name = "sha512" if self.algorithm == "EdDSA" else "sha256"
        digest = hashlib.new(name, access_token.encode()).digest()
        claims: dict[str, Any] = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
            "at_hash": b64(digest[: len(digest) // 2]),
        }  # fmt: skip
        if "max_age" in asked:
            claims["auth_time"] = now
        return self._sign({**claims, **self.claims}, self.headers, self.key)

    def _sign(self, claims: dict[str, Any], headers: dict[str, Any], key: str) -> str:
        headers = {"kid": key, "alg": self.algorithm, **headers}
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            self.signing_key if self.signing_key is not None else private_key(self.algorithm, key),
            algorithm=headers["alg"],
            headers=headers,
        )

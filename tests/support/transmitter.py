"""A transmitter of security events on loopback, with keys of its own: pushes them and answers polls (RFC 8935, RFC 8936)."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.token_mint import Mint

AUDIENCE: Final = "https://tokens.example.org"
CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED: Final = f"{CAEP}session-revoked"
CREDENTIAL_CHANGE: Final = f"{CAEP}credential-change"
ACCOUNT_DISABLED: Final = f"{RISC}account-disabled"
TYPE: Final = "application/secevent+jwt"


def of_session(session: str, user: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the complex subject of a session, and of a user if one is given."""
    subject: dict[str, Any] = {"format": "complex", "session": {"format": "opaque", "id": session}}
    return subject if user is None else {**subject, "user": user}


class Transmitter:
    """The transmitter. A test changes its public attributes to make it answer in another way."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.bearer = "poll-" + "t" * 24
        """The bearer token that polls must present."""
        self.queue: dict[str, str] = {}
        """Tokens that wait for a poll, by `jti`. An acknowledged or refused one is removed."""
        self.acknowledged: list[str] = []
        self.refused: dict[str, dict[str, str]] = {}
        self.polls: list[dict[str, Any]] = []
        self.answer: tuple[int, bytes] | None = None
        """Status and body of the answer to a poll, instead of the right one."""
        self.forgets = False
        """Whether reports of polls are ignored."""
        self.mint = Mint("ES256", "transmitter-1")
        self.published = [self.mint]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.issuer = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.mint.issuer = self.issuer
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/jwks", self._jwks),
                Route("/poll", self._poll, methods=["POST"]),
            ]
        )
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def user(self, subject: str = "alice") -> dict[str, str]:
        """Return the identifier of a user."""
        return {"format": "iss_sub", "iss": self.issuer, "sub": subject}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of this transmitter in the policy file; it pushes, without a bearer token."""
        return {
            "issuer": self.issuer,
            "keys": "discovery",
            "audience": AUDIENCE,
            "algorithms": ["ES256"],
            "private": True,
            "push": {},
            **changes,
        }

    def rotate(self, name: str, *, keep: bool = True) -> None:
        """Sign with a new key. `keep`: whether the earlier ones are still published."""
        self.mint = Mint("ES256", name, self.issuer)
        self.published = [*(self.published if keep else ()), self.mint]

    def token(
        self,
        event: str = SESSION_REVOKED,
        subject: Any = None,
        claims: dict[str, Any] | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """Return a security event token with one event, whose claims are `claims`. A change to `...` omits a claim."""
        now = int(self.now())
        members = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "iat": now,
            "jti": secrets.token_hex(8),
            "sub_id": self.user() if subject is None else subject,
            "events": {event: {"event_timestamp": now} if claims is None else claims},
            **changes,
        }
        payload = json.dumps({name: value for name, value in members.items() if value is not ...}).encode()
        return self.mint.token_of(payload, {"typ": "secevent+jwt", **(header or {})})

    def offer(self, token_ids: Iterable[str] = ("set-1",), **token: Any) -> None:
        """Queue a token for polls under each id."""
        for token_id in token_ids:
            self.queue[token_id] = self.token(jti=token_id, **token)

    def push(self, url: str, token: str, bearer: str = "") -> httpx.Response:
        """Push a token."""
        headers = {"Content-Type": TYPE, "Accept": "application/json"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        return httpx.post(url, content=token, headers=headers, trust_env=False, timeout=60)

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"})

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse({"keys": [each.jwk for each in self.published]})

    async def _poll(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.bearer}":
            return Response(status_code=401)
        if request.headers["content-type"] != "application/json":
            return Response(status_code=415)
        asked = await request.json()
        self.polls.append(asked)
        if self.answer is not None:
            return Response(self.answer[1], self.answer[0])
        if not self.forgets:
            self.acknowledged += asked.get("ack", [])
            self.refused |= asked.get("setErrs", {})
            for token_id in [*asked.get("ack", []), *asked.get("setErrs", {})]:
                self.queue.pop(token_id, None)
        given = dict(list(self.queue.items())[: asked["maxEvents"]])
        return JSONResponse({"sets": given, "moreAvailable": len(given) < len(self.queue)})

"""A browser that logs in at a login service of one's own, for the client `app`."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN
from token_service.core.login.challenge import AcceptCommand
from token_service.tokens import base64url

ISSUER = "https://issuer.example"
REDIRECT = "https://app.example/cb"
VERIFIER = "v" * 43
CHALLENGE = base64url.encode(hashlib.sha256(VERIFIER.encode()).digest())
PARAMETERS = {
    "client_id": "app",
    "redirect_uri": REDIRECT,
    "response_type": "code",
    "scope": "openid read",
    "state": "s-1",
    "nonce": "n-1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


class Login:
    """An application with the client `app` and the login service `inhouse`."""

    def __init__(self, app: OAuthApp) -> None:
        self.app = app
        self.challenges = app.node.core.login.challenges
        upstreams = app.node.core.login.upstreams
        upstreams.current = {
            "inhouse": upstreams.challenge("https://login.example/in"),
            "other": upstreams.challenge("https://other.example/in?tenant=a"),
        }

    @classmethod
    async def of(cls, app: OAuthApp, **metadata: Any) -> Login:
        """Register the client `app` and return it."""
        values = {
            "grant_types": (AUTHORIZATION_CODE, REFRESH_TOKEN),
            "redirect_uris": (REDIRECT, "https://app.example/other?x=1"),
            "scopes": ("openid", "read"),
            "first_party": True,
            **metadata,
        }
        await app.register_public("app", **values)
        return cls(app)

    def browser(self) -> httpx.AsyncClient:
        """Return a browser of its own cookies."""
        return httpx.AsyncClient(
            transport=self.app.http._transport, base_url=ISSUER, trust_env=False, follow_redirects=False
        )

    async def begin(self, browser: httpx.AsyncClient, **changes: Any) -> httpx.Response:
        parameters = {name: value for name, value in {**PARAMETERS, **changes}.items() if value is not None}
        return await browser.get("/authorize", params=parameters)

    async def accept(self, challenge: str, subject: str = "alice", **fields: Any) -> str:
        command = AcceptCommand(login_challenge=challenge, subject=subject, **fields)
        return await self.challenges.accept(Caller.system(), command, self.app.clock.now())

    async def exchange(self, code: str, **changes: Any) -> httpx.Response:
        parameters = {
            "grant_type": AUTHORIZATION_CODE,
            "client_id": "app",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.app.post("/token", parameters)


def location(answer: httpx.Response) -> dict[str, str]:
    """Return the parameters of a redirection."""
    assert answer.status_code == 303, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query, keep_blank_values=True))


def challenge_of(answer: httpx.Response) -> str:
    return location(answer)["login_challenge"]

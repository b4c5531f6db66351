"""An application whose clients prove keys: `batch` has a secret, `app` is public and logs users in."""

from __future__ import annotations

from typing import Any

import httpx

from tests.unit.core.jwts import claims_of
from tests.unit.tokens.dpop_proofs import ProofMaker
from tests.unit.web.oauth.browser_login import PARAMETERS, REDIRECT, VERIFIER, Login, challenge_of, location
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.clients.client import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
)

TOKEN = "https://issuer.example/token"
PAR = "https://issuer.example/par"
USERINFO = "https://issuer.example/userinfo"


class Bound:
    """The application, and two keys: that of the client, and one of another sender."""

    def __init__(self, app: OAuthApp, login: Login) -> None:
        self.app, self.login = app, login
        self.key, self.other = ProofMaker(), ProofMaker("EdDSA")

    @classmethod
    async def make(cls, app: OAuthApp) -> Bound:
        login = await Login.of(app)
        await app.register("batch", grant_types=(CLIENT_CREDENTIALS, TOKEN_EXCHANGE, REFRESH_TOKEN))
        return cls(app, login)

    def proof(self, key: ProofMaker | None = None, **changes: Any) -> str:
        """Return a proof for the token endpoint, made now."""
        values = {"token": None, "method": "POST", "uri": TOKEN, "now": self.app.clock.now(), **changes}
        return (key or self.key).proof(**values)

    async def token(self, proof: str | None, client_id: str = "batch", **parameters: Any) -> httpx.Response:
        """Send a token request of a client with a secret; by default, of client credentials."""
        headers = {} if proof is None else {"DPoP": proof}
        values = {"grant_type": CLIENT_CREDENTIALS, **parameters}
        return await self.app.post("/token", values, client_id=client_id, headers=headers)

    async def code(self, **parameters: Any) -> str:
        """Return a code for `app`, whose user has logged in."""
        async with self.login.browser() as browser:
            begun = await self.login.begin(browser, **parameters)
            back = await self.login.accept(challenge_of(begun))
            return location(await browser.get(back))["code"]

    async def push(self, proof: str, **changes: Any) -> httpx.Response:
        return await self.app.post("/par", {**PARAMETERS, **changes}, headers={"DPoP": proof})

    async def exchange_code(self, code: str, proof: str | None) -> httpx.Response:
        parameters = {"grant_type": AUTHORIZATION_CODE, "code": code, "code_verifier": VERIFIER}
        return await self._public({**parameters, "redirect_uri": REDIRECT}, proof)

    async def refresh(self, refresh_token: str, proof: str | None) -> httpx.Response:
        return await self._public({"grant_type": REFRESH_TOKEN, "refresh_token": refresh_token}, proof)

    async def session(self) -> dict[str, Any]:
        """Return the tokens of a new session of `app` that is bound to the key of the client."""
        body: dict[str, Any] = ok(await self.exchange_code(await self.code(), self.proof()))
        return body

    async def userinfo(
        self, token: str, proof: str | None, *, scheme: str = "DPoP", method: str = "GET"
    ) -> httpx.Response:
        headers = {"Authorization": f"{scheme} {token}", **({} if proof is None else {"DPoP": proof})}
        return await self.app.http.request(method, "/userinfo", headers=headers)

    def resource_proof(self, token: str, key: ProofMaker | None = None, **changes: Any) -> str:
        """Return a proof for the userinfo endpoint, made now."""
        values = {"token": token, "uri": USERINFO, "now": self.app.clock.now(), **changes}
        return (key or self.key).proof(**values)

    async def _public(self, parameters: dict[str, Any], proof: str | None) -> httpx.Response:
        headers = {} if proof is None else {"DPoP": proof}
        return await self.app.post("/token", {"client_id": "app", **parameters}, headers=headers)


def ok(answer: httpx.Response) -> dict[str, Any]:
    """Return the body of a successful response."""
    assert answer.status_code in {200, 201}, answer.text
    body: dict[str, Any] = answer.json()
    return body


def bound_to(answer: httpx.Response) -> Any:
    """Return `cnf` of the access token in a response, and check that the type of the token says the same."""
    body = ok(answer)
    cnf = claims_of(body["access_token"]).get("cnf")
    assert body["token_type"] == ("DPoP" if cnf and "jkt" in cnf else "Bearer")
    return cnf


def refusal(answer: httpx.Response, status: int = 400) -> tuple[str, str]:
    """Return the error code and the reason of a refused request."""
    assert answer.status_code == status, answer.text
    return answer.json()["error"], answer.json()["reason"]

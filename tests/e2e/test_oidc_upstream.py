"""oidc-provider as the upstream of a node: login, userinfo, logout there and logout here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.e2e.foreign_issuer import SECRET, ForeignIssuer
from tests.e2e.oauth import CALLBACK, Client, claims_of, register
from tests.integration.oauth.node import OAuthNode
from tests.support.deadline import eventually_sync
from token_service.tokens import base64url

VERIFIER = "v" * 43


@dataclass(frozen=True)
class World:
    """A provider, a node whose users log in there, and a client of the node."""

    provider: ForeignIssuer
    node: OAuthNode
    client: Client

    def log_in(self, browser: httpx.Client, **parameters: str) -> dict[str, Any]:
        """Return the tokens of a login with a browser that has no session at the provider."""
        back = browser.get(self.provider.interact(browser, self.begin(browser, **parameters), "alice"))
        return self.exchange(back)

    def begin(self, browser: httpx.Client, **parameters: str) -> httpx.Response:
        """Return the answer of the provider to the authorization request."""
        begun = browser.get(
            f"{self.node.issuer}/authorize",
            params={
                "client_id": "shop",
                "response_type": "code",
                "redirect_uri": CALLBACK,
                "scope": "openid read",
                "state": "s-1",
                "code_challenge": base64url.encode(hashlib.sha256(VERIFIER.encode()).digest()),
                "code_challenge_method": "S256",
                **parameters,
            },
        )
        assert begun.headers["location"].startswith(f"{self.provider.issuer}/auth?")
        return browser.get(begun.headers["location"])

    def exchange(self, back: httpx.Response) -> dict[str, Any]:
        """Return the tokens for the code in an authorization response."""
        answer = parameters_of(back)
        assert (answer.get("state"), answer.get("iss")) == ("s-1", self.node.issuer), answer
        tokens = self.token(grant_type="authorization_code", code=answer["code"], code_verifier=VERIFIER)
        assert tokens.is_success, tokens.text
        found: dict[str, Any] = tokens.json()
        return found

    def token(self, **form: str) -> httpx.Response:
        """Return the answer of the token endpoint of the node."""
        return httpx.post(
            f"{self.node.issuer}/token", data=form, headers=self.client.basic, trust_env=False, timeout=60
        )

    def refresh(self, tokens: dict[str, Any]) -> httpx.Response:
        return self.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])

    def confirm_logout(self, browser: httpx.Client, page: httpx.Response) -> httpx.Response:
        """Answer the page of the provider that asks whether to log out."""
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        return browser.post(
            f"{self.provider.issuer}/session/end/confirm", data={"logout": "yes", "xsrf": fields["xsrf"]}
        )


def parameters_of(answer: httpx.Response) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("upstream")
    policies, secret = directory / "policies.toml", directory / "secret"
    secret.write_text(SECRET)
    provider = ForeignIssuer("tokens")
    policies.write_text(f"""
[upstreams.corporate]
kind = "oidc"
issuer = "{provider.issuer}"
client_id = "tokens"
client_secret_file = "{secret}"
scopes = ["openid", "profile"]
identity_claims = ["name"]
userinfo = true
private = true
ca_file = "{provider.ca_file}"

[upstreams.corporate.roles]
claim = "groups"
values = {{ staff = "clerk" }}
""")
    node = OAuthNode(env={"TOKEN_SERVICE_POLICY_FILE": str(policies)})
    provider.metadata = {
        "redirect_uris": [f"{node.issuer}/callback/corporate"],
        "post_logout_redirect_uris": [f"{node.issuer}/end_session/return"],
        "backchannel_logout_uri": f"{node.issuer}/backchannel-logout/corporate",
        "backchannel_logout_session_required": True,
    }
    with provider, node:
        client = register(
            node,
            "shop",
            "client_secret_basic",
            grant_types=["authorization_code", "refresh_token"],
            redirect_uris=[CALLBACK],
            post_logout_redirect_uris=["https://app.example/bye"],
            scopes=["openid", "profile", "read"],
            first_party=True,
        )
        yield World(provider, node, client)


def test_user_of_the_provider_gets_tokens_here(world: World) -> None:
    with world.provider.browser() as browser:
        tokens = world.log_in(browser, scope="openid profile read")
        claims = claims_of(world.node, tokens["access_token"])
        assert (claims["sub"], claims["client_id"], claims["roles"]) == ("corporate:alice", "shop", ["clerk"])
        told = browser.get(
            f"{world.node.issuer}/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"}
        )
        assert told.json() == {"sub": "corporate:alice", "name": "Alice"}
        # The session at the provider gives the next code without a page.
        silent = browser.get(world.begin(browser, prompt="none").headers["location"])
        assert world.exchange(silent)["access_token"] != tokens["access_token"]


def test_interaction_that_the_client_excludes_is_an_error(world: World) -> None:
    with world.provider.browser() as browser:
        back = browser.get(world.begin(browser, prompt="none").headers["location"])
        assert parameters_of(back)["error"] == "login_required"


def test_new_authentication_is_that_of_the_provider(world: World) -> None:
    with world.provider.browser() as browser:
        world.log_in(browser)
        begun = world.begin(browser, prompt="login")
        assert "/interaction/" in begun.headers["location"]
        answer = browser.post(
            f"{world.provider.issuer}{urlsplit(begun.headers['location']).path}",
            data={"prompt": "login", "login": "alice", "password": "any"},
        )
        again = browser.get(answer.headers["location"])
        tokens = world.exchange(browser.get(again.headers["location"]))
        assert "auth_time" in claims_of(world.node, tokens["id_token"], "JWT")


def test_logout_at_the_provider_ends_the_session_here(world: World) -> None:
    with world.provider.browser() as browser, world.provider.browser() as other:
        ended, kept = world.log_in(browser), world.log_in(other)
        page = browser.get(f"{world.provider.issuer}/session/end")
        assert world.confirm_logout(browser, page).status_code == 303
        eventually_sync(lambda: world.refresh(ended).status_code == 400)
        assert world.refresh(kept).is_success


def test_logout_here_goes_on_at_the_provider(world: World) -> None:
    with world.provider.browser() as browser:
        tokens = world.log_in(browser)
        answer = browser.get(
            f"{world.node.issuer}/end_session",
            params={
                "id_token_hint": tokens["id_token"],
                "post_logout_redirect_uri": "https://app.example/bye",
                "state": "s-2",
            },
        )
        assert answer.headers["location"].startswith(f"{world.provider.issuer}/session/end?")
        assert world.refresh(tokens).status_code == 400
        back = world.confirm_logout(browser, browser.get(answer.headers["location"]))
        assert back.headers["location"].startswith(f"{world.node.issuer}/end_session/return?")
        done = browser.get(back.headers["location"])
        assert done.headers["location"] == "https://app.example/bye?state=s-2"
        again = browser.get(world.begin(browser, prompt="none").headers["location"])
        assert parameters_of(again)["error"] == "login_required"


def test_rotated_key_of_the_provider_is_found(world: World) -> None:
    with world.provider.browser() as browser:
        world.log_in(browser)
    world.provider.rotate()
    with world.provider.browser() as browser:
        assert "access_token" in world.log_in(browser)

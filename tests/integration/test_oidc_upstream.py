"""A node whose users log in at an OpenID Connect provider, from the authorization request to the logout there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import grpc
import httpx
import pytest

from tests.integration.calls import TIMEOUT
from tests.integration.nodes import Node
from tests.support.deadline import eventually, eventually_sync
from tests.support.files import rewrite
from tests.support.oidc_provider import CLIENT_SECRET, OidcProvider
from token_service.client import InvalidTokenError, ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN
from token_service.tokens import base64url
from token_service.v1 import client_service_pb2 as pb, client_service_pb2_grpc

API = "https://api.example.org"
REDIRECT = "https://app.example/cb"
VERIFIER = "v" * 43
ISSUER = "http://tokens.localhost"
POLICY = """
[upstreams.corporate]
kind = "oidc"
issuer = "ISSUER"
client_id = "tokens & co"
client_secret_file = "SECRET"
private = true
"""


@dataclass
class Site:
    """A node, its identity provider and the client `app`."""

    node: Node
    provider: OidcProvider
    policy: Path

    def begin(self, browser: httpx.Client) -> httpx.Response:
        return browser.get(
            "/authorize",
            params={
                "client_id": "app",
                "redirect_uri": REDIRECT,
                "response_type": "code",
                "scope": "openid read",
                "state": "s-1",
                "code_challenge": base64url.encode(hashlib.sha256(VERIFIER.encode()).digest()),
                "code_challenge_method": "S256",
            },
        )

    def log_in(self) -> dict[str, Any]:
        """Return the tokens of a whole login."""
        with httpx.Client(base_url=self.node.http_url, trust_env=False, timeout=TIMEOUT) as browser:
            begun = self.begin(browser)
            back = self.provider.log_in(begun.headers["location"])
            assert back.startswith(f"{ISSUER}/callback/corporate?")
            answer = browser.get(back.removeprefix(ISSUER))
            parameters = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
            assert (parameters["state"], parameters["iss"]) == ("s-1", ISSUER)
            tokens = browser.post(
                "/token",
                data={
                    "grant_type": AUTHORIZATION_CODE,
                    "client_id": "app",
                    "code": parameters["code"],
                    "code_verifier": VERIFIER,
                },
            )
        assert tokens.status_code == 200, tokens.text
        found: dict[str, Any] = tokens.json()
        return found

    def log_out(self, **claims: Any) -> httpx.Response:
        """Report a logout at the provider."""
        return httpx.post(
            f"{self.node.http_url}/backchannel-logout/corporate",
            data={"logout_token": self.provider.logout_token(**claims)},
            timeout=TIMEOUT,
        )

    def refresh(self, tokens: dict[str, Any]) -> httpx.Response:
        return httpx.post(
            f"{self.node.http_url}/token",
            data={
                "grant_type": REFRESH_TOKEN,
                "client_id": "app",
                "refresh_token": tokens["refresh_token"],
            },
            timeout=TIMEOUT,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("upstream")
    policy, secret = directory / "policy.toml", directory / "secret"
    secret.write_text(CLIENT_SECRET)
    with OidcProvider() as provider:
        policy.write_text(POLICY.replace("ISSUER", provider.issuer).replace("SECRET", str(secret)))
        env = {
            "TOKEN_SERVICE_ISSUER": ISSUER,
            "TOKEN_SERVICE_POLICY_FILE": str(policy),
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        }
        with Node(env=env) as node:
            client = pb.Client(
                client_id="app",
                token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_NONE,
                grant_types=[AUTHORIZATION_CODE, REFRESH_TOKEN],
                redirect_uris=[REDIRECT],
                scopes=["openid", "read"],
                audiences=[API],
                first_party=True,
            )
            with grpc.insecure_channel(node.grpc_address) as channel:
                stub: Any = client_service_pb2_grpc.ClientServiceStub(channel)
                stub.CreateClient(pb.CreateClientRequest(client=client), timeout=TIMEOUT)
            yield Site(node, provider, policy)


async def test_logout_at_the_provider_reaches_validators(site: Site) -> None:
    issuer = ServiceIssuer(issuer=ISSUER, target=site.node.grpc_address)
    async with TokenValidator(ValidatorConfig(issuers=[issuer], audience=API)) as validator:
        await validator.wait_ready(TIMEOUT)
        ended = await asyncio.to_thread(site.log_in)
        site.provider.claims["sid"] = "session-2"
        other = await asyncio.to_thread(site.log_in)
        for tokens in (ended, other):
            claims = await validator.validate(tokens["access_token"])
            assert claims.subject == "corporate:alice"
        answer = await asyncio.to_thread(site.log_out, sid="session-1")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")

        async def is_refused() -> bool:
            try:
                await validator.validate(ended["access_token"])
            except InvalidTokenError:
                return True
            return False

        await eventually(is_refused)
        assert (await validator.validate(other["access_token"])).subject == "corporate:alice"
    assert site.refresh(ended).json()["error"] == "invalid_grant"
    assert site.refresh(other).status_code == 200
    assert site.log_out(sid="session-2", aud="other").status_code == 400


def test_provider_that_is_down_is_an_error_for_the_client(site: Site) -> None:
    path = "/token"
    site.provider.raw[path] = (503, b"")
    with httpx.Client(base_url=site.node.http_url, trust_env=False, timeout=TIMEOUT) as browser:
        back = site.provider.log_in(site.begin(browser).headers["location"])
        answer = browser.get(back.removeprefix(ISSUER))
    assert dict(parse_qsl(urlsplit(answer.headers["location"]).query))["error"] == "temporarily_unavailable"
    del site.provider.raw[path]
    assert "access_token" in site.log_in()
    assert CLIENT_SECRET not in site.node.log_text()


def test_changed_settings_count_without_a_restart(site: Site) -> None:
    policy = site.policy.read_text()
    rewrite(site.policy, policy + 'scopes = ["openid", "email"]\n')

    def scope() -> str:
        with httpx.Client(base_url=site.node.http_url, trust_env=False, timeout=TIMEOUT) as browser:
            return site.provider.asked(site.begin(browser).headers["location"])["scope"]

    eventually_sync(lambda: scope() == "openid email")
    rewrite(site.policy, policy.replace('kind = "oidc"', 'kind = "none"'))
    eventually_sync(lambda: "the policies in force stay unchanged" in site.node.log_text())
    assert scope() == "openid email"
    rewrite(site.policy, policy)
    eventually_sync(lambda: scope() == "openid")

"""oidc-provider as a trusted issuer: its ID tokens and ID-JAGs become tokens here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conformance import assert_conformant
from tests.e2e.foreign_issuer import ForeignIssuer
from tests.e2e.oauth import API, JWT_BEARER, Answers, Client, ask, claims_of, register
from tests.integration.oauth.node import OAuthNode
from token_service.tokens.assertions import parse_assertion

RELYING_PARTY = "shop-at-acme"
ID_JAG_TYPE = "oauth-id-jag+jwt"

both_programs = pytest.mark.parametrize("program", ["openid_client.mjs", "oauth4webapi.mjs"])


@dataclass(frozen=True)
class World:
    """An issuer, a node that trusts it, and a client of the node."""

    issuer: ForeignIssuer
    node: OAuthNode
    client: Client

    def present(self, assertion: str, program: str = "openid_client.mjs", **parameters: str) -> Answers:
        """Present an assertion twice."""
        call = {
            "call": "grant",
            "grant_type": JWT_BEARER,
            "parameters": {"assertion": assertion, **parameters},
        }
        answers = ask(program, self.node, self.client, call, call)
        assert_conformant(answers.wire)
        return answers

    def assert_refused(self, assertion: str, problem: str) -> None:
        """Present an assertion that must be refused because of a problem."""
        refused = self.present(assertion).refused()
        assert (refused["error"], refused["status"]) == ("invalid_grant", 400)
        assert problem in refused["description"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An issuer that a node discovers."""
    policies: Path = tmp_path_factory.mktemp("policies") / "policies.toml"
    with ForeignIssuer(RELYING_PARTY) as issuer:
        policies.write_text(f"""
[trusted_issuers.acme]
issuer = "{issuer.issuer}"
keys = "discovery"
private = true
ca_file = "{issuer.ca_file}"
assertions = ["id_token", "id_jag"]
audiences = ["{RELYING_PARTY}"]
scopes = ["openid", "offline_access", "read"]
refresh_tokens = true

[trusted_issuers.acme.roles]
claim = "groups"
values = {{ staff = "clerk" }}
""")
        with OAuthNode(env={"TOKEN_SERVICE_POLICY_FILE": str(policies)}) as node:
            client = register(
                node,
                "shop",
                "client_secret_basic",
                grant_types=[JWT_BEARER, "refresh_token"],
                scopes=["openid", "offline_access", "read", "write"],
            )
            yield World(issuer, node, client)


def id_jag(world: World, **changes: Any) -> str:
    """Return an ID-JAG of the issuer for the client (draft-ietf-oauth-identity-assertion-authz-grant, section 3)."""
    now = int(time.time())
    claims: Mapping[str, Any] = {
        "iss": world.issuer.issuer,
        "sub": "alice",
        "aud": world.node.issuer,
        "client_id": world.client.client_id,
        "jti": secrets.token_urlsafe(),
        "iat": now,
        "exp": now + 300,
        "scope": "read",
        **changes,
    }
    return world.issuer.sign(dict(claims), typ=ID_JAG_TYPE)


@both_programs
def test_id_token_becomes_tokens_once(world: World, program: str) -> None:
    answers = world.present(world.issuer.login("alice"), program)
    issued = answers.ok(0)
    assert issued["scope"] == "openid read"
    assert "id_token" in issued
    assert "refresh_token" not in issued
    claims = claims_of(world.node, issued["access_token"])
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("acme:alice", "shop", API)
    assert claims["roles"] == ["clerk"]
    refused = answers.refused(1)
    assert (refused["error"], refused["status"]) == ("invalid_grant", 400)
    assert "used before" in refused["description"]


def test_refresh_token_must_be_asked_for(world: World) -> None:
    issued = world.present(world.issuer.login("bob"), scope="read offline_access").ok()
    answers = ask(
        "oauth4webapi.mjs",
        world.node,
        world.client,
        {"call": "refresh", "token": issued["refresh_token"], "parameters": {}},
    )
    assert claims_of(world.node, answers.ok()["access_token"])["sub"] == "acme:bob"


@both_programs
def test_id_jag_becomes_an_access_token_once(world: World, program: str) -> None:
    answers = world.present(id_jag(world), program)
    issued = answers.ok(0)
    assert issued["scope"] == "read"
    assert not {"refresh_token", "id_token"} & issued.keys()
    assert claims_of(world.node, issued["access_token"])["sub"] == "acme:alice"
    assert "used before" in answers.refused(1)["description"]


def test_assertion_of_another_audience_client_issuer_or_key_is_refused(world: World) -> None:
    now = int(time.time())
    id_token = {"iss": world.issuer.issuer, "sub": "alice", "iat": now, "exp": now + 300}
    world.assert_refused(world.issuer.sign({**id_token, "aud": "another-application"}), "another audience")
    world.assert_refused(id_jag(world, aud="https://elsewhere.example"), "another audience")
    world.assert_refused(id_jag(world, client_id="other"), "not the client that presents it")
    world.assert_refused(id_jag(world, iss="https://elsewhere.example"), "issuer is not trusted")
    header, claims, signature = id_jag(world).split(".")
    forged = ("A" if signature[0] != "A" else "B") + signature[1:]
    world.assert_refused(f"{header}.{claims}.{forged}", "signature")


def test_scope_beyond_the_issuer_is_refused(world: World) -> None:
    refused = world.present(world.issuer.login("alice"), scope="read write").refused()
    assert (refused["error"], refused["status"]) == ("invalid_scope", 400)


def test_rotated_key_is_found_and_the_old_one_forgotten(world: World) -> None:
    old = world.issuer.login("alice")
    key_id = world.issuer.rotate()
    issued = world.present(new := world.issuer.login("alice")).ok()
    assert parse_assertion(new).key_id == key_id
    assert claims_of(world.node, issued["access_token"])["sub"] == "acme:alice"
    world.assert_refused(old, "no key")


def test_discovery_tells_of_the_grant_and_its_profile(world: World) -> None:
    document = ask("oauth4webapi.mjs", world.node, world.client, {"call": "metadata"}).ok()
    assert JWT_BEARER in document["grant_types_supported"]
    assert document["authorization_grant_profiles_supported"] == [
        "urn:ietf:params:oauth:grant-profile:id-jag"
    ]

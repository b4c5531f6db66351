"""A node with a trusted issuer: assertions at the token endpoint, global revocation, and a changed policy file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.calls import TIMEOUT
from tests.integration.nodes import Node
from tests.support.deadline import eventually_sync
from tests.support.files import rewrite
from token_service.core.clients.client import JWT_BEARER, REFRESH_TOKEN
from token_service.tokens.jwk import public_jwk
from token_service.v1 import client_service_pb2 as pb, client_service_pb2_grpc

KEY, NEXT_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ACME = "https://login.acme.example"
API = "https://api.example.org"
ISSUER = "https://tokens.example.org"
ENDPOINT = f"{ISSUER}/global-token-revocation"
"""The URL that the node is known by. The tests reach it at its address."""
POLICY = """
[trusted_issuers.acme]
issuer = "https://login.acme.example"
keys = "file:KEYS"
assertions = ["id_token", "id_jag"]
audiences = ["shop-at-acme"]
scopes = ["orders:read", "openid", "offline_access"]
refresh_tokens = true
global_revocation = true
"""


@dataclass
class Site:
    """A node, its files, and the clients `app`, `operator` (may revoke) and `plain`."""

    node: Node
    policy: Path
    keys: Path
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def url(self) -> str:
        """The address of the node."""
        return self.node.http_url

    def signed(self, *, key: ec.EllipticCurvePrivateKey = KEY, typ: str = "JWT", **claims: Any) -> str:
        now = int(time.time())
        body = {"iss": ACME, "iat": now, "exp": now + 300, "jti": str(next(self.numbers)), **claims}
        headers = {"kid": public_jwk(key.public_key())["kid"], "typ": typ}
        return jwt.encode(body, key, algorithm="ES256", headers=headers)

    def id_token(self, **claims: Any) -> str:
        return self.signed(**{"sub": "bob", "aud": "shop-at-acme", **claims})

    def hold(self) -> str:
        """Return a refresh token of `alice`, whom other tests revoke, even in this second."""
        ahead = int(time.time()) + 3
        answer = self.token(self.id_token(sub="alice", iat=ahead), scope="offline_access")
        refresh_token: str = answer.json()["refresh_token"]
        return refresh_token

    def token(self, assertion: str, client_id: str = "app", **parameters: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/token",
            data={"grant_type": JWT_BEARER, "assertion": assertion, **parameters},
            auth=(client_id, self.secrets[client_id]),
            timeout=TIMEOUT,
        )

    def refresh(self, refresh_token: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/token",
            data={"grant_type": REFRESH_TOKEN, "refresh_token": refresh_token},
            auth=("app", self.secrets["app"]),
            timeout=TIMEOUT,
        )

    def end(
        self, sub_id: Any, *, headers: dict[str, str] | None = None, auth: str = "operator"
    ) -> httpx.Response:
        """Ask for a global revocation."""
        return httpx.post(
            f"{self.url}/global-token-revocation",
            json={"sub_id": sub_id},
            headers=headers,
            auth=None if headers else (auth, self.secrets[auth]),
            timeout=TIMEOUT,
        )

    def discovery(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/.well-known/openid-configuration", timeout=TIMEOUT)
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("trusted")
    policy, keys = directory / "policy.toml", directory / "keys.json"
    keys.write_text(key_set(KEY))
    policy.write_text(POLICY.replace("KEYS", str(keys)))
    env = {
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_POLICY_FILE": str(policy),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    with Node(env=env) as node:
        made = Site(node, policy, keys)
        register(made, "app", [JWT_BEARER, REFRESH_TOKEN])
        register(made, "plain", [REFRESH_TOKEN])
        register(made, "operator", [], pb.Right(permission="revoke", unbounded=True))
        yield made


def key_set(key: ec.EllipticCurvePrivateKey) -> str:
    return json.dumps({"keys": [public_jwk(key.public_key())]})


def register(site: Site, client_id: str, grant_types: list[str], *rights: pb.Right) -> None:
    client = pb.Client(
        client_id=client_id,
        token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
        grant_types=grant_types,
        scopes=["orders:read", "openid", "offline_access"],
        audiences=[API],
        rights=rights,
    )
    with grpc.insecure_channel(site.node.grpc_address) as channel:
        stub: Any = client_service_pb2_grpc.ClientServiceStub(channel)
        created = stub.CreateClient(pb.CreateClientRequest(client=client), timeout=TIMEOUT)
    site.secrets[client_id] = created.client_secret


def test_id_token_becomes_tokens_once(site: Site) -> None:
    assertion = site.id_token()
    answer = site.token(assertion, scope="orders:read openid offline_access")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    body = answer.json()
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("acme:bob", "app", API)
    assert set(body) == {
        "access_token", "token_type", "expires_in", "scope", "id_token", "refresh_token",
        "refresh_token_timeout", "authorization_expires_in",
    }  # fmt: skip
    assert site.refresh(body["refresh_token"]).status_code == 200
    again = site.token(assertion)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert "used before" in again.json()["error_description"]


def test_errors_are_those_of_oauth(site: Site) -> None:
    for answer, status, error in (
        (site.token(site.id_token(aud="other")), 400, "invalid_grant"),
        (site.token(site.id_token(), scope="admin"), 400, "invalid_scope"),
        (site.token(site.id_token(), resource="https://other"), 400, "invalid_target"),
        (site.token(""), 400, "invalid_request"),
        (site.token(site.id_token(), "plain"), 400, "unauthorized_client"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text


def test_id_jag_is_for_its_client(site: Site) -> None:
    jag: dict[str, Any] = {"typ": "oauth-id-jag+jwt", "aud": ISSUER, "sub": "bob", "client_id": "app"}
    answer = site.token(site.signed(**jag, scope="orders:read other", resource=API))
    assert (answer.status_code, answer.json()["scope"]) == (200, "orders:read"), answer.text
    assert "refresh_token" not in answer.json()
    assert site.token(site.signed(**{**jag, "client_id": "other"})).json()["error"] == "invalid_grant"


def test_global_revocation_ends_what_a_subject_holds(site: Site) -> None:
    assert site.discovery()["global_token_revocation_endpoint"] == ENDPOINT
    for sub_id in (
        {"format": "iss_sub", "iss": ACME, "sub": "alice"},
        {"format": "iss_sub", "iss": ISSUER, "sub": "acme:alice"},
        {"format": "opaque", "id": "acme:alice"},
    ):
        before = site.id_token(sub="alice", iat=int(time.time()) - 30)
        held = site.hold()
        answer = site.end(sub_id)
        assert (answer.status_code, answer.content) == (204, b""), answer.text
        assert site.refresh(held).json()["error"] == "invalid_grant"
        assert "subject was revoked" in site.token(before).json()["error_description"]
    # Nothing tells whether a subject exists.
    assert site.end({"format": "opaque", "id": "nobody"}).status_code == 204


@pytest.mark.parametrize(
    "sub_id",
    [
        {"format": "phone_number", "phone_number": "+1"},
        {"format": "iss_sub", "iss": "https://other", "sub": "alice"},
        {"format": "iss_sub", "iss": ACME},
        {"format": "iss_sub", "iss": ACME, "sub": "alice", "more": "x"},
        {"format": "email", "email": "alice@acme.example"},
        {"format": "opaque", "id": ""},
        {"format": "opaque", "id": 5},
        {"format": "opaque", "id": "a" * 257},
        {"format": ["opaque"], "id": "a"},
        {},
        "alice",
    ],
)
def test_other_subject_identifiers_are_refused(site: Site, sub_id: Any) -> None:
    answer = site.end(sub_id)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_only_callers_with_the_right_revoke_globally(site: Site) -> None:
    alice = {"format": "opaque", "id": "alice"}
    url = f"{site.url}/global-token-revocation"
    assert site.end(alice, auth="app").status_code == 403
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
        answer = httpx.post(url, json={"sub_id": alice}, headers=headers, timeout=TIMEOUT)
        assert answer.status_code == 401
        assert "www-authenticate" in answer.headers
    operator = ("operator", site.secrets["operator"])
    for body, content_type in (
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b'{"sub_id": {"format": "opaque", "id": "a"}, "more": 1}', "application/json"),
        (b'{"sub_id": {"format": "opaque", "id": "a"}}', "application/x-www-form-urlencoded"),
        (b" " * 20_000, "application/json"),
    ):
        answer = httpx.post(
            url, content=body, headers={"Content-Type": content_type}, auth=operator, timeout=TIMEOUT
        )
        assert answer.status_code == 400, body[:80]


def test_issuer_revokes_its_own_subjects_by_a_jwt(site: Site) -> None:
    alice = {"format": "iss_sub", "iss": ACME, "sub": "alice"}

    def asked(sub_id: Any = alice, token: str | None = None, **claims: Any) -> int:
        typ = {"typ": "global-token-revocation+jwt", "aud": ENDPOINT, "sub": "shop", **claims}
        return site.end(
            sub_id, headers={"Authorization": f"Bearer {token or site.signed(**typ)}"}
        ).status_code

    held = site.hold()
    once = site.signed(typ="global-token-revocation+jwt", aud=ENDPOINT)
    assert asked(token=once) == 204
    assert site.refresh(held).json()["error"] == "invalid_grant"
    assert asked(token=once) == 401
    for claims in (
        {"aud": [ENDPOINT, "https://other"]}, {"aud": "https://other"}, {"jti": ""}, {"key": NEXT_KEY},
        {"iss": "https://other"}, {"exp": int(time.time()) + 3600}, {"exp": 1}, {"typ": "JWT"},
    ):  # fmt: skip
        assert asked(**claims) == 401, claims
    for other in (
        {"format": "opaque", "id": "acme:alice"},
        {"format": "iss_sub", "iss": ISSUER, "sub": "acme:alice"},
        {"format": "email", "email": "alice@acme.example"},
    ):
        assert asked(other) == 403


def test_replaced_keys_and_changed_issuers_count(site: Site) -> None:
    document = site.discovery()
    assert JWT_BEARER in document["grant_types_supported"]
    assert document["authorization_grant_profiles_supported"] == [
        "urn:ietf:params:oauth:grant-profile:id-jag"
    ]
    rewrite(site.keys, key_set(NEXT_KEY))
    eventually_sync(lambda: site.token(site.id_token(key=NEXT_KEY, sub="carol")).status_code == 200)
    assert site.token(site.id_token(sub="carol")).json()["error"] == "invalid_grant"
    policy = site.policy.read_text()
    rewrite(site.policy, "")
    eventually_sync(lambda: JWT_BEARER not in site.discovery()["grant_types_supported"])
    assert "authorization_grant_profiles_supported" not in site.discovery()
    answer = site.token(site.id_token(key=NEXT_KEY))
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    rewrite(site.keys, key_set(KEY))
    rewrite(site.policy, policy)
    eventually_sync(lambda: site.token(site.id_token(sub="carol")).status_code == 200)

"""The requirements of the API server of Kubernetes on an OIDC issuer.

They are those of its `AuthenticationConfiguration` (`jwt[].issuer`), of `--oidc-issuer-url`, and of go-oidc, by which it
discovers the issuer and verifies tokens. `ApiServer` has them in the order in which the API server applies them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from google.protobuf import struct_pb2
from joserfc import jws
from joserfc.jwk import KeySet

from tests.integration.calls import ACCESS, ID, Api
from tests.integration.nodes import Node

ALGORITHMS = frozenset(f"{family}{bits}" for family in ("RS", "ES", "PS") for bits in (256, 384, 512))
"""What the API server can be told to accept. EdDSA is not among them."""
KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}


@dataclass
class ApiServer:
    """An API server with one issuer. It reaches the host of the issuer at `address`."""

    issuer: str
    audience: str
    address: str
    algorithms: frozenset[str] = field(default_factory=lambda: ALGORITHMS)

    def fetch(self, url: str) -> Mapping[str, Any]:
        parts, issuer = urlsplit(url), urlsplit(self.issuer)
        assert (parts.scheme, parts.netloc) == ("https", issuer.netloc), "a server of its own certificate"
        answer = httpx.get(f"http://{self.address}{parts.path}", timeout=30, trust_env=False)
        assert answer.status_code == 200
        assert not answer.history
        return answer.json()

    def discover(self) -> KeySet:
        """Return the keys of the issuer."""
        issuer = urlsplit(self.issuer)
        assert issuer.scheme == "https"
        assert not {issuer.username, issuer.query, issuer.fragment} - {None, ""}
        document = self.fetch(self.issuer.removesuffix("/") + "/.well-known/openid-configuration")
        assert document["issuer"] == self.issuer
        assert self.algorithms & {*document["id_token_signing_alg_values_supported"]}
        keys = self.fetch(document["jwks_uri"])["keys"]
        names = [key["kid"] for key in keys]
        assert len({*names}) == len(names)
        for key in keys:
            assert key["use"] == "sig"
            assert key["kty"] == KEY_TYPES[key["alg"]]
            assert not {"d", "k"} & key.keys()
        return KeySet.import_key_set({"keys": keys})

    def authenticate(self, token: str) -> tuple[str, list[str]]:
        """Return the user and the groups of a token, with the claims `sub` and `groups`."""
        assert token.count(".") == 2
        found = jws.deserialize_compact(token.encode(), self.discover(), algorithms=[*self.algorithms])
        assert found.headers()["kid"]
        claims = json.loads(found.payload or b"")
        assert claims["iss"] == self.issuer
        audience = claims["aud"]
        assert self.audience in ([audience] if isinstance(audience, str) else audience)
        assert isinstance(claims["exp"], int | float)
        assert claims["exp"] > claims["iat"]
        assert claims.get("nbf", claims["iat"]) <= claims["iat"]
        assert not {"_claim_names", "_claim_sources"} & claims.keys()
        groups = claims["groups"]
        assert all(isinstance(group, str) for group in groups)
        assert isinstance(claims["sub"], str)
        assert claims["sub"]
        return f"{self.issuer}#{claims['sub']}", groups


@pytest.fixture(scope="module", params=["RS256", "ES256"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with Node(
        env={
            "TOKEN_SERVICE_SIGNING_ALGORITHM": request.param,
            "TOKEN_SERVICE_ISSUER": "https://tokens.example.org/clusters/a",
        }
    ) as started:
        yield started


@pytest.mark.parametrize("kind", ["access", "id"])
async def test_api_server_authenticates_the_tokens(node: Node, kind: str) -> None:
    groups = struct_pb2.Struct()
    groups.update({"groups": ["platform", "oncall"]})
    async with Api(node.grpc_address) as api:
        issued = await api.issue(
            token_types=[ACCESS, ID], client_id="kubernetes", audience=["kubernetes"], custom_claims=groups
        )
    server = ApiServer("https://tokens.example.org/clusters/a", "kubernetes", node.http_address)
    token = issued.access_token if kind == "access" else issued.id_token
    assert server.authenticate(token) == (f"{server.issuer}#alice", ["platform", "oncall"])


async def test_api_server_refuses_a_token_for_others(node: Node) -> None:
    async with Api(node.grpc_address) as api:
        issued = await api.issue(token_types=[ACCESS], audience=["elsewhere"])
    server = ApiServer("https://tokens.example.org/clusters/a", "kubernetes", node.http_address)
    with pytest.raises(AssertionError):
        server.authenticate(issued.access_token)

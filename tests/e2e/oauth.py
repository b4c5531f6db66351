"""A node whose HTTP endpoints foreign OAuth clients use, its registered clients, and the programs that act for them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from tests.integration.calls import TIMEOUT, Api
from tests.integration.oauth.node import OAuthNode
from tests.support import node as nodejs
from token_service.v1 import (
    authorization_service_pb2 as authorization_pb,
    authorization_service_pb2_grpc,
    client_service_pb2 as pb,
    client_service_pb2_grpc,
)

API = "https://api.example"
"""The audience of the registered clients."""
CALLBACK = "https://app.example/cb"
STATE = "the-state-of-the-browser"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"


@dataclass(frozen=True)
class Client:
    """A registered client as its own program knows it."""

    client_id: str
    method: str
    secret: str = field(default="", repr=False)
    jwk: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The private key of `private_key_jwt`."""

    @property
    def proof(self) -> dict[str, Any]:
        """How the programs for node prove the client."""
        return {
            "method": self.method,
            "secret": self.secret,
            "jwk": dict(self.jwk),
            "alg": self.jwk.get("alg", ""),
        }

    @property
    def basic(self) -> dict[str, str]:
        """The header of `client_secret_basic`. Ids and generated secrets need no form encoding."""
        pair = base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


@dataclass(frozen=True)
class Answers:
    """The outcome of each call, and every HTTP answer behind them."""

    results: Sequence[Mapping[str, Any]]
    wire: Sequence[Mapping[str, Any]]

    def ok(self, index: int = 0) -> Any:
        """Return the result of a call that must have succeeded."""
        result = self.results[index]
        assert "ok" in result, result
        return result["ok"]

    def refused(self, index: int = 0) -> Mapping[str, Any]:
        """Return the error of a call that must have been refused."""
        result = self.results[index]
        assert "refused" in result, result
        return result["refused"]


def private_key(algorithm: str) -> dict[str, Any]:
    """Return a new private JWK."""
    keys: dict[str, Any] = {
        "ES256": lambda: ECKey.import_key(ec.generate_private_key(ec.SECP256R1())),
        "RS256": lambda: RSAKey.import_key(rsa.generate_private_key(65537, 2048)),
        "EdDSA": lambda: OKPKey.import_key(ed25519.Ed25519PrivateKey.generate()),
        "Ed25519": lambda: OKPKey.import_key(ed25519.Ed25519PrivateKey.generate()),
    }
    return {**keys[algorithm]().as_dict(private=True), "alg": algorithm, "kid": f"key-{algorithm}"}


def public_key(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public members of a JWK."""
    return {
        name: value for name, value in jwk.items() if name not in {"d", "p", "q", "dp", "dq", "qi", "oth"}
    }


def register(node: OAuthNode, client_id: str, method: str, **fields: Any) -> Client:
    """Register a client through ClientService. `method`: its token_endpoint_auth_method.

    For `private_key_jwt`, `algorithm` is that of a new key.
    """
    jwk: dict[str, Any] = {}
    if method == "private_key_jwt":
        jwk = private_key(fields.pop("algorithm"))
        fields["jwks"] = json.dumps({"keys": [public_key(jwk)]})
    message = pb.Client(
        client_id=client_id,
        token_endpoint_auth_method=f"TOKEN_ENDPOINT_AUTH_METHOD_{method.upper()}",
        **{"scopes": ["read", "write"], "audiences": [API], **fields},
    )
    answer = asyncio.run(_create(node, pb.CreateClientRequest(client=message)))
    return Client(client_id, method, answer.client_secret, jwk)


def code_for(node: OAuthNode, client: Client, verifier: str, **fields: Any) -> str:
    """Return the URL to which a login service sends the browser of alice back, with a code for the client.

    `fields`: more fields of CreateAuthorizationGrant.
    """
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    request = authorization_pb.CreateAuthorizationGrantRequest(
        **{
            "client_id": client.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge,
            "subject": "alice",
            "scopes": ["openid", "read"],
            **fields,
        }
    )

    async def create() -> authorization_pb.CreateAuthorizationGrantResponse:
        async with Api(node.grpc_address, node.credentials) as api:
            stub: Any = authorization_service_pb2_grpc.AuthorizationServiceStub(api.channel)
            return await stub.CreateAuthorizationGrant(request, timeout=TIMEOUT)

    made = asyncio.run(create())
    return f"{CALLBACK}?{urlencode({'code': made.code, 'state': STATE, 'iss': made.issuer})}"


async def _create(node: OAuthNode, request: pb.CreateClientRequest) -> pb.CreateClientResponse:
    async with Api(node.grpc_address, node.credentials) as api:
        stub: Any = client_service_pb2_grpc.ClientServiceStub(api.channel)
        return await stub.CreateClient(request, timeout=TIMEOUT)


def claims_of(node: OAuthNode, token: str, typ: str = "at+jwt") -> dict[str, Any]:
    """Verify a token of the service with joserfc and return its claims."""
    tls = ssl.create_default_context(cafile=node.ca_file)
    answer = httpx.get(f"{node.http_url}/.well-known/jwks.json", timeout=30, trust_env=False, verify=tls)
    decoded = jwt.decode(token, KeySet.import_key_set(answer.json()), algorithms=["ES256"])
    assert decoded.header["typ"] == typ
    return decoded.claims


def refresh_token_of(node: OAuthNode, client_id: str) -> str:
    """Return a refresh token of alice for a client, as a login service gets it."""

    async def issue() -> str:
        async with Api(node.grpc_address, node.credentials) as api:
            return (await api.issue(client_id=client_id, audience=[API])).refresh_token

    return asyncio.run(issue())


def ask(
    program: str,
    node: OAuthNode,
    client: Client,
    *calls: Mapping[str, Any],
    algorithm: str = "oidc",
    method: str = "",
    **more: Any,
) -> Answers:
    """Let a program for node make calls as a client. `method`: another one than that of the registration.

    `algorithm` chooses the discovery document: `oidc` or `oauth2`.
    """
    proof = {**client.proof, **({"method": method} if method else {})}
    return Answers(
        **nodejs.run(
            program,
            {
                "issuer": node.issuer,
                "client_id": client.client_id,
                "proof": proof,
                "algorithm": algorithm,
                "calls": calls,
                **({"tls": {"ca": node.ca_file.read_text()}} if node.ca_file else {}),
                **more,
            },
        )
    )

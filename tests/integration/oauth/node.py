"""A node as OAuth clients see it: its registered clients, and requests to its HTTP endpoints."""

from __future__ import annotations

import json
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.calls import TIMEOUT, Api
from tests.integration.nodes import Node
from token_service.tokens.jwk import public_jwk
from token_service.v1 import client_service_pb2 as pb, client_service_pb2_grpc

API = "https://api.example"
"""The audience of the registered clients."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLIENT_CREDENTIALS, REFRESH_TOKEN = "client_credentials", "refresh_token"


class OAuthNode(Node):
    """A node whose issuer is its own HTTP address."""

    credentials: grpc.ChannelCredentials | None = None
    """What a caller of its gRPC port needs."""
    ca_file: Path | None = None
    """The authority of its certificate, if it has one of its own."""

    def __init__(self, *args: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._directory()  # takes the ports, so the issuer is known
        self._settings = {
            "TOKEN_SERVICE_ISSUER": self.http_url,
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",  # a twelfth of the time of RS256
            **self._settings,
        }

    @property
    def issuer(self) -> str:
        """The `iss` of the tokens."""
        return self._settings["TOKEN_SERVICE_ISSUER"]


@dataclass(frozen=True)
class Registered:
    """A registered client as its own program knows it."""

    client_id: str
    secret: str = field(default="", repr=False)
    key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)

    @property
    def basic(self) -> dict[str, str]:
        """The header of `client_secret_basic`. Ids and generated secrets need no form encoding."""
        return {"Authorization": f"Basic {b64encode(f'{self.client_id}:{self.secret}'.encode()).decode()}"}

    @property
    def post(self) -> dict[str, str]:
        """The parameters of `client_secret_post`, or of a public client."""
        secret = {"client_secret": self.secret} if self.secret else {}
        return {"client_id": self.client_id, **secret}

    def assertion(self, audience: object, **changes: Any) -> dict[str, str]:
        """Return the parameters of `private_key_jwt`. A change to `...` omits the claim."""
        assert self.key is not None
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "exp": int(time.time()) + 60,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not ...}
        signed = jwt.encode(claims, self.key, "ES256", {"kid": public_jwk(self.key.public_key())["kid"]})
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


async def register(
    api: Api, client_id: str, method: str = "client_secret_basic", **fields: Any
) -> Registered:
    """Register a client through ClientService. `method`: its `token_endpoint_auth_method`."""
    key = None
    if method == "private_key_jwt":
        key = ec.generate_private_key(ec.SECP256R1())
        fields["jwks"] = json.dumps({"keys": [public_jwk(key.public_key())]})
    client = pb.Client(
        client_id=client_id,
        token_endpoint_auth_method=f"TOKEN_ENDPOINT_AUTH_METHOD_{method.upper()}",
        **{
            "grant_types": [CLIENT_CREDENTIALS, REFRESH_TOKEN],
            "scopes": ["read", "write"],
            "audiences": [API],
            **fields,
        },
    )
    stub: Any = client_service_pb2_grpc.ClientServiceStub(api.channel)
    answer = await stub.CreateClient(pb.CreateClientRequest(client=client), timeout=TIMEOUT)
    return Registered(client_id, answer.client_secret, key)


def http_client(node: Node, **options: Any) -> httpx.AsyncClient:
    """Return a client of the HTTP endpoints that follows no redirects."""
    return httpx.AsyncClient(base_url=node.http_url, trust_env=False, timeout=TIMEOUT, **options)

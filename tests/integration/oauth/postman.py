"""The Postman collection of docs/oauth.md, and the clients that it needs at a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.integration.calls import TIMEOUT, Api
from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode, register
from tests.integration.tour import DOCS
from token_service.v1 import (
    authorization_service_pb2 as pb,
    authorization_service_pb2_grpc,
    client_service_pb2 as client_pb,
)

COLLECTION = DOCS / "oauth.postman_collection.json"
_RESOURCE = "https://orders.example"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_REDIRECT_URI = "https://app.example/cb"


def requests_of(collection: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests in all folders of a collection."""
    return list(_items(collection))


def _items(folder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in folder["item"]:
        if "item" in item:
            yield from _items(item)
        else:
            yield item


async def register_clients(node: OAuthNode, provider: IdentityProvider) -> dict[str, str]:
    """Register the clients, and return the variables of the collection that have no default.

    `provider`: a trusted issuer of the node, whose ID tokens may give the scope orders:read.
    """
    async with Api(node.grpc_address) as api:
        machine = await register(
            api,
            "shop",
            grant_types=["client_credentials", _EXCHANGE],
            scopes=["orders:read"],
            audiences=[_RESOURCE],
            rights=[
                client_pb.Right(permission="validate"),
                client_pb.Right(
                    permission="exchange",
                    clients=["app"],
                    audiences=["https://stock.example", "shop.example"],
                ),
            ],
        )
        await register(
            api,
            "app",
            "none",
            grant_types=["authorization_code", "refresh_token", JWT_BEARER],
            scopes=["openid", "orders:read"],
            audiences=[_RESOURCE],
            redirect_uris=[_REDIRECT_URI],
        )
        grant = pb.CreateAuthorizationGrantRequest(
            subject="alice",
            client_id="app",
            redirect_uri=_REDIRECT_URI,
            scopes=["openid", "orders:read"],
            code_challenge="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        )
        stub: Any = authorization_service_pb2_grpc.AuthorizationServiceStub(api.channel)
        made = await stub.CreateAuthorizationGrant(grant, timeout=TIMEOUT)
    endpoint = f"{node.issuer}/global-token-revocation"
    return {
        "client_secret": machine.secret,
        "code": made.code,
        "assertion": provider.id_token(),
        "revocation_jwt": provider.sign({"aud": endpoint}, "global-token-revocation+jwt"),
    }

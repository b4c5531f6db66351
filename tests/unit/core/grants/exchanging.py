"""A node with clients that exchange tokens."""

from __future__ import annotations

from typing import Any

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import TOKEN_EXCHANGE, AuthMethod, ClientMetadata
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.exchange import ExchangedToken, ExchangeRequest
from token_service.core.grants.presented import ACCESS_TOKEN, TRANSACTION_TOKEN
from token_service.core.policies.rights import May, Permission, Right

DOMAIN = "domain.example"
"""The trust domain of transaction tokens."""
SCOPES = ("pay", "read", "write")
GATEWAY = Right(
    permission=Permission.EXCHANGE,
    clients=("web",),
    audiences=("inventory", DOMAIN),
    scopes=("read", "pay"),
    token_types=("access", "transaction"),
)
"""The right of the gateway: to take tokens of `web`."""
IMPERSONATE = Right(permission=Permission.EXCHANGE, clients=("web",), may=(May.IMPERSONATE,))
EVERYTHING = Right(permission=Permission.EXCHANGE, unbounded=True)


class Exchanging:
    """A node. `web` and `gateway` may exchange; `web` is registered for the trust domain."""

    def __init__(self, node: Node[ManualClock]) -> None:
        self.node = node

    @classmethod
    async def make(cls, **options: Any) -> Exchanging:
        node = await Node(ManualClock(), max_staleness=1e12, **options).start()
        scene = cls(node)
        await scene.register("web", audiences=("orders", "mail", DOMAIN), scopes=SCOPES)
        await scene.register("gateway")
        await scene.register("public", token_endpoint_auth_method=AuthMethod.NONE)
        await scene.register("plain", grant_types=())
        return scene

    async def register(self, client_id: str, **metadata: Any) -> None:
        settings: dict[str, Any] = {
            "token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC,
            "grant_types": (TOKEN_EXCHANGE,),
            **metadata,
        }
        await self.node.core.client_administration.create(
            Caller.system(), client_id, ClientMetadata(**settings), 0.0
        )
        await self.node.clients.refresh()

    async def token(self, client_id: str = "web", subject: str = "alice", **command: Any) -> str:
        """Return an access token with a session."""
        return (
            await self.node.issue(
                subject, client_id, **{"audience": ("orders", "mail"), "scopes": SCOPES, **command}
            )
        ).access_token

    async def exchange(
        self,
        token: str,
        client_id: str = "gateway",
        *rights: Right,
        proof: Proof = Proof.CLIENT_SECRET,
        scopes: tuple[str, ...] = (),
        audience: tuple[str, ...] = (),
        **exchange: Any,
    ) -> ExchangedToken:
        caller = Caller(client_id, Rights(rights), proof, client_id=client_id)
        return await self.node.core.oauth.grants.exchange.grant(
            caller,
            GrantRequest(scopes=scopes, audience=audience),
            ExchangeRequest(**{"subject_token": token, "subject_token_type": ACCESS_TOKEN, **exchange}),
            self.node.clock.now(),
        )

    async def transaction(self, token: str, *args: Any, **changes: Any) -> ExchangedToken:
        """Exchange for a transaction token; by default, `web` exchanges its own token."""
        return await self.exchange(
            token,
            *(args or ("web",)),
            **{
                "scopes": ("pay",),
                "audience": (DOMAIN,),
                "requested_token_type": TRANSACTION_TOKEN,
                **changes,
            },
        )

    async def signed(self, client_id: str = "web", **claims: Any) -> str:
        """Return an access token with claims that IssueToken refuses."""
        issued = claims_of(await self.token(client_id))
        return await self.node.minter._sign("at+jwt", {**issued, **claims})


def claims(exchanged: ExchangedToken) -> dict[str, Any]:
    """Return the claims of the new token."""
    return claims_of(exchanged.tokens.access_token)

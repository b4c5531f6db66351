"""A node with clients and trusted issuers, and assertions of these issuers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import JWT_BEARER, REFRESH_TOKEN, AuthMethod, ClientMetadata
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.trusted_issuers import TrustedIssuers, parse_trusted_issuers
from token_service.core.issuing.commands import IssuedTokens
from token_service.errors import GrantInvalidError
from token_service.tokens.claims import TokenKind
from token_service.tokens.jwk import public_jwk
from token_service.tokens.key_set import KeySet

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_SET = KeySet.from_jwks([public_jwk(KEY.public_key())])
ACME = "https://login.acme.example"
CLUSTER = "https://kubernetes.default.svc"
ACCOUNT = "system:serviceaccount:shop:checkout"
SVID = "spiffe://example.org/shop"
API, MAIL = "https://api.example.org", "https://mail.example.org"
SCOPES = ("orders:read", "orders:write", "openid", "offline_access", "admin")

POLICY: Mapping[str, Any] = {
    "acme": {
        "issuer": ACME,
        "keys": "discovery",
        "assertions": ["id_token", "id_jag"],
        "audiences": ["shop-at-acme", "partner-at-acme"],
        "scopes": ["orders:read", "orders:write", "openid", "offline_access"],
        "refresh_tokens": True,
        "global_revocation": True,
        "roles": {"claim": ["realm", "roles"], "values": {"acme-admins": "admin", "staff": "staff"}},
        "groups": {"claim": "groups", "values": ["blue"]},
    },
    "cluster": {
        "issuer": CLUSTER,
        "keys": "discovery",
        "assertions": ["workload"],
        "scopes": ["orders:read"],
    },
    "mesh": {
        "trust_domain": "example.org",
        "keys": "file:/bundle",
        "assertions": ["workload"],
        "reusable": True,
    },
    "self": {"keys": "own", "assertions": ["id_token"], "scopes": ["orders:read", "openid"]},
}


class Keys:
    """The keys of every trusted issuer. `error` is raised instead, if it is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def keys(self, key_id: str | None) -> KeySet:
        await asyncio.sleep(0)  # other calls run meanwhile, as during a fetch
        if self.error is not None:
            raise self.error
        return KEY_SET


def client(client_id: str, proof: Proof = Proof.CLIENT_SECRET) -> Caller:
    """Return a registered client as a caller."""
    return Caller(client_id, Rights(), proof, client_id=client_id)


APP, OTHER_APP, PUBLIC = client("app"), client("other"), client("public", Proof.CLIENT_ID)


class Scene:
    """A node with the clients `app`, `other` and `public` (without authentication) and the issuers of `POLICY`."""

    def __init__(self, node: Node[ManualClock]) -> None:
        self.node = node
        self.keys = Keys()
        self.grant_of = node.core.oauth.grants.assertion
        self._made = 0
        self.trust(POLICY)

    @classmethod
    async def make(cls, **options: Any) -> Scene:
        """Return a started scene."""
        node = await Node(ManualClock(), **{"max_staleness": 1e12, **options}).start()
        for client_id in ("app", "other", "public"):
            metadata = ClientMetadata(
                token_endpoint_auth_method=AuthMethod.NONE
                if client_id == "public"
                else AuthMethod.CLIENT_SECRET_BASIC,
                grant_types=(JWT_BEARER,) if client_id == "other" else (JWT_BEARER, REFRESH_TOKEN),
                scopes=SCOPES,
                audiences=(API, MAIL),
            )
            await node.core.client_administration.create(
                Caller.system(), client_id, metadata, node.clock.now()
            )
        await node.core.clients.refresh()
        return cls(node)

    def trust(self, entries: Mapping[str, Any]) -> None:
        """Replace the trusted issuers."""
        issuers = parse_trusted_issuers({"trusted_issuers": entries}).values()
        own = next((each for each in issuers if each.is_own), None)
        foreign = [(each, self.keys) for each in issuers if not each.is_own]
        self.grant_of.trusted = TrustedIssuers(foreign, own=own, service=ISSUER)

    def signed(
        self,
        claims: Mapping[str, Any],
        *,
        key: ec.EllipticCurvePrivateKey = KEY,
        typ: str | None = "JWT",
        **changes: Any,
    ) -> str:
        """Return a signed assertion with its own `jti`. A change to None removes the claim."""
        self._made += 1
        now = int(self.node.clock.now())
        every = {"iat": now, "exp": now + 300, "jti": f"jti-{self._made}", **claims, **changes}
        headers = {"kid": public_jwk(KEY.public_key())["kid"], "typ": typ}
        body = {name: value for name, value in every.items() if value is not None}
        return jwt.encode(body, key, algorithm="ES256", headers=headers)

    def id_token(self, **changes: Any) -> str:
        """Return an ID token of acme for the application of this service there."""
        return self.signed({"iss": ACME, "sub": "alice", "aud": "shop-at-acme"}, **changes)

    def id_jag(self, **changes: Any) -> str:
        """Return an ID-JAG of acme for the client `app`."""
        claims = {"iss": ACME, "sub": "alice", "aud": ISSUER, "client_id": "app"}
        return self.signed(claims, **{"typ": "oauth-id-jag+jwt", **changes})

    def account(self, **changes: Any) -> str:
        """Return a token of a Kubernetes service account for this service."""
        return self.signed({"iss": CLUSTER, "sub": ACCOUNT, "aud": [ISSUER]}, **changes)

    async def own_id_token(self, client_id: str = "app", **command: Any) -> IssuedTokens:
        """Issue an ID token, an access token and a refresh token of this service for `bob`."""
        kinds = frozenset({TokenKind.ACCESS, TokenKind.ID, TokenKind.REFRESH})
        return await self.node.issue("bob", client_id, kinds=kinds, audience=(API,), **command)

    async def grant(
        self, assertion: str, *scopes: str, caller: Caller = APP, audience: tuple[str, ...] = (API,)
    ) -> IssuedTokens:
        """Present an assertion."""
        request = GrantRequest(scopes=scopes, audience=audience)
        return await self.grant_of.grant(caller, request, assertion, self.node.clock.now())

    async def refused(self, assertion: str, *scopes: str, caller: Caller = APP) -> str:
        """Present an assertion that must not be accepted; return the problem."""
        try:
            await self.grant(assertion, *scopes, caller=caller)
        except GrantInvalidError as error:
            return error.message.removeprefix("the assertion is not accepted: ")
        raise AssertionError("the assertion was accepted")

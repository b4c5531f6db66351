"""The HTTP application around a node on stores in memory, and requests of registered clients to it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.access import _OwnTokens
from token_service.app.edges import make_oauth_routes
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.credentials import ASSERTION_TYPE
from token_service.core.access.workloads import Workloads
from token_service.core.clients.client import (
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    AuthMethod,
    Client,
    ClientMetadata,
)
from token_service.core.policies.rights import Permission, Right
from token_service.tokens import strict_json
from token_service.tokens.jwk import public_jwk
from token_service.tokens.key_set import KeySet
from token_service.web.app import make_app
from token_service.web.edge import HttpEdge, RequestLimits
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.discovery import endpoint_urls, issuer_path
from token_service.web.oauth.key_proofs import HttpKeyProofs
from token_service.web.peer import Peers
from token_service.web.probes import Probes

ADDRESS = "192.0.2.7"
KEY = ec.generate_private_key(ec.SECP256R1())
"""The private key of every `private_key_jwt` client."""
KEY_SET = KeySet.from_jwks([public_jwk(KEY.public_key())])


class Keys:
    """The keys of every client."""

    async def keys(self, key_id: str | None) -> KeySet:
        return KEY_SET


class OAuthApp:
    """The endpoints of a node, and an HTTP client with the address `ADDRESS`."""

    def __init__(
        self, node: Node[ManualClock], *, limits: RequestLimits | None = None, peers: Peers | None = None
    ) -> None:
        """The node must be started by `start`."""
        self.node, self.clock = node, node.clock
        core = node.core
        self.authenticator = Authenticator(
            core.clients,
            ClientAuthenticator(
                core.clients,
                lambda _client: Keys(),
                core.ports.stores.used_ids,
                node.clock,
                node.audit,
                issuer=core.options.issuer,
                endpoints=endpoint_urls(core.options.issuer),
            ),
            _OwnTokens(core.introspector, core.key_proofs, core.options.issuer),
            issuer=core.options.issuer,
            workloads=Workloads([], node.clock),
            callers={},
        )
        self.callers = HttpCallers(self.authenticator, HttpKeyProofs(core.key_proofs, core.options.issuer))
        self.edge = HttpEdge(limits, peers=peers)
        self.app = make_app(
            lambda: strict_json.encode({"keys": core.keyring.jwks}),
            Probes(readiness=dict, startup=dict, version={}),
            edge=self.edge,
            routes=make_oauth_routes(core, self.authenticator, self.edge),
            issuer_path=issuer_path(core.options.issuer),
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=(ADDRESS, 4711)), base_url=ISSUER, trust_env=False
        )
        self.secrets: dict[str, str] = {}
        """Secrets of registered clients."""
        self._assertions = 0

    @classmethod
    async def start(
        cls, *, limits: RequestLimits | None = None, peers: Peers | None = None, **node: Any
    ) -> OAuthApp:
        """Return the application of a new node, with the options of `Node`."""
        started = await Node(ManualClock(), **{"max_staleness": 1e12, **node}).start()
        return cls(started, limits=limits, peers=peers)

    async def register(self, client_id: str, *permissions: Permission, **metadata: Any) -> Client:
        """Register a client, by default with a secret, the built grant types and the scopes `read` and `write`."""
        values = {
            "token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC,
            "grant_types": (CLIENT_CREDENTIALS, REFRESH_TOKEN),
            "scopes": ("read", "write"),
            "rights": tuple(Right(permission=each) for each in permissions),
            **metadata,
        }
        created = await self.node.core.client_administration.create(
            Caller.system(), client_id, ClientMetadata(**values), self.clock.now()
        )
        if created.secret is not None:
            self.secrets[client_id] = created.secret.reveal().decode()
        return created.client

    async def register_public(self, client_id: str, **metadata: Any) -> Client:
        """Register a public client that may refresh."""
        return await self.register(
            client_id,
            **{
                "token_endpoint_auth_method": AuthMethod.NONE,
                "grant_types": (REFRESH_TOKEN,),
                **metadata,
            },
        )

    async def register_assertion_client(
        self, client_id: str, *permissions: Permission, **metadata: Any
    ) -> Client:
        """Register a `private_key_jwt` client, whose key is `KEY`."""
        return await self.register(
            client_id,
            *permissions,
            token_endpoint_auth_method=AuthMethod.PRIVATE_KEY_JWT,
            jwks=strict_json.encode({"keys": [public_jwk(KEY.public_key())]}).decode(),
            **metadata,
        )

    def basic(self, client_id: str, secret: str | None = None) -> dict[str, str]:
        """Return the header of `client_secret_basic`."""
        secret = self.secrets[client_id] if secret is None else secret
        credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        return {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}

    def assertion(self, client_id: str, **claims: Any) -> dict[str, str]:
        """Return the parameters of `private_key_jwt`, with a new `jti`. A claim of None is omitted."""
        self._assertions += 1
        now = int(self.clock.now())
        body = {
            "iss": client_id,
            "sub": client_id,
            "aud": self.node.core.options.issuer,
            "exp": now + 60,
            "iat": now,
            "jti": f"assertion-{self._assertions}",
            **claims,
        }
        key_id = public_jwk(KEY.public_key())["kid"]
        payload = {name: value for name, value in body.items() if value is not None}
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": jwt.encode(payload, KEY, algorithm="ES256", headers={"kid": key_id}),
        }

    async def post(
        self,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        client_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a form. `client_id` adds the Basic credentials of a registered client."""
        credentials = {} if client_id is None else self.basic(client_id)
        return await self.http.post(
            path, data=dict(parameters or {}), headers={**credentials, **(headers or {})}
        )

    async def token(
        self, client_id: str, grant_type: str = CLIENT_CREDENTIALS, **parameters: Any
    ) -> httpx.Response:
        """Send a token request of a client with a secret."""
        return await self.post("/token", {"grant_type": grant_type, **parameters}, client_id=client_id)

    async def close(self) -> None:
        """Close the HTTP client."""
        await self.http.aclose()

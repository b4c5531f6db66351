"""The OAuth endpoints of a node on stores in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from msgspec import structs
from starlette.types import ASGIApp

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.edges import make_oauth_routes
from token_service.certificates.verification import CertificateVerifier
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.certificates import CertifiedClients
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.key_sources import KeySource
from token_service.core.access.workloads import Workloads
from token_service.core.clients.client import Client
from token_service.web.app import make_app
from token_service.web.edge import HttpEdge
from token_service.web.peer import Peers
from token_service.web.probes import Probes

ADDRESS = "198.51.100.7"
NO_PROBES = Probes(readiness=dict, startup=dict, version={})


@dataclass
class Site:
    """A node, the application of its HTTP port, and a client of it that has no certificate."""

    node: Node[ManualClock]
    app: ASGIApp
    http: httpx.AsyncClient

    async def register(self, client: Client) -> None:
        """Add or replace a client, as another node would do."""
        clients = self.node.core.ports.stores.clients
        if await clients.create(client) is None:
            known = await clients.get(client.client_id)
            assert known is not None
            assert await clients.save(structs.replace(client, revision=known.revision))
        await self.node.clients.refresh()


def _no_keys(_: Client) -> KeySource:
    raise AssertionError("no client has keys here")


@asynccontextmanager
async def site(*clients: Client, certificates: CertificateVerifier | None = None) -> AsyncIterator[Site]:
    """Serve a node that has these clients."""
    node = await Node(ManualClock()).start()
    core = node.core
    authentication = ClientAuthenticator(
        core.clients, _no_keys, core.ports.stores.used_ids, core.ports.clock, core.ports.audit,
        issuer=core.options.issuer,
        certificates=None if certificates is None else CertifiedClients(certificates, core.clients),
    )  # fmt: skip
    own_tokens: object = None
    authenticator = Authenticator(
        core.clients, authentication, own_tokens, issuer=core.options.issuer,  # type: ignore[arg-type]  # not used
        workloads=Workloads([], core.ports.clock), callers={},
    )  # fmt: skip
    edge = HttpEdge(peers=Peers(require_tls=True))
    routes = make_oauth_routes(core, authenticator, edge, certificates=certificates is not None)
    app = make_app(lambda: b'{"keys":[]}', NO_PROBES, edge=edge, routes=routes)
    transport = httpx.ASGITransport(app, client=(ADDRESS, 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://issuer.example") as http:
        made = Site(node, app, http)
        for client in clients:
            await made.register(client)
        yield made

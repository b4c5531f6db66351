"""One node for the OAuth clients of a module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.calls import Api
from tests.integration.oauth.node import OAuthNode, http_client
from tests.integration.oauth.site import IDLE, Clients, Site, register_clients


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[OAuthNode, Clients]]:
    """A node without a grace period for refresh tokens, and one registered client of each kind."""
    env = {
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "0s",
        "TOKEN_SERVICE_POLICY__INTERNAL__IDLE_TIMEOUT": f"{IDLE}s",
    }
    with OAuthNode(env=env) as node:
        yield node, asyncio.run(register_clients(node))


@pytest.fixture
async def site(running: tuple[OAuthNode, Clients]) -> AsyncIterator[Site]:
    """The node, its clients, and connections to both edges."""
    node, clients = running
    async with Api(node.grpc_address) as api, http_client(node) as http:
        yield Site(node, clients, api, http)

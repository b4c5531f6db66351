"""The origins of web pages that may call the HTTP endpoints for some client."""

from __future__ import annotations

from collections import Counter

from token_service.core.clients.client import Client, ClientState


class Origins:
    """The registered origins of all active clients, kept up to date client by client."""

    def __init__(self) -> None:
        self._clients: Counter[str] = Counter()
        """Number of active clients by origin."""

    def __contains__(self, origin: str) -> bool:
        """Tell whether any active client is registered with an origin."""
        return origin in self._clients

    def replace(self, before: Client | None, after: Client | None) -> None:
        """Count the origins of a client that has changed. None: the client did not exist, or does no longer."""
        self._clients.update(_origins_of(after))
        for origin in _origins_of(before):
            self._clients[origin] -= 1
            if not self._clients[origin]:
                del self._clients[origin]


def _origins_of(client: Client | None) -> frozenset[str]:
    if client is None or client.state is not ClientState.ACTIVE:
        return frozenset()
    return frozenset(client.allowed_origins)

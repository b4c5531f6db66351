"""The registered clients that are told of logouts."""

from __future__ import annotations

from collections.abc import Collection

from token_service.core.clients.registry import ClientRegistry


class LogoutClients:
    """Follows the registry, so that nothing is done for logouts while no client asks for them."""

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._told: dict[str, str] = {}
        registry.on_change(self._changed)

    def __len__(self) -> int:
        """Return the number of clients with a `backchannel_logout_uri`."""
        return len(self._told)

    def ids(self) -> list[str]:
        """Return the ids of the clients with a `backchannel_logout_uri`."""
        return list(self._told)

    def uri(self, client_id: str) -> str:
        """Return the `backchannel_logout_uri` of a client, active or disabled; empty: it has none."""
        return self._told.get(client_id, "")

    def _changed(self, ids: Collection[str]) -> None:
        for client_id in ids:
            client = self._registry.get(client_id)
            if client is not None and client.backchannel_logout_uri:
                self._told[client_id] = client.backchannel_logout_uri
            else:
                self._told.pop(client_id, None)

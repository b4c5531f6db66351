"""The client registry in memory: this node's copy of all registered clients.

All nodes share the client store. A look-up costs no I/O. The copy is amended whenever the revision in the log head
shows a change, and replaced when the database was restored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Iterable

from msgspec import structs

from token_service.core.clients.client import AuthMethod, Client, ClientState, SecurityProfile
from token_service.core.clients.origins import Origins
from token_service.core.clients.store import ClientStore, StoredClients

logger = logging.getLogger(__name__)


class ClientRegistry:
    """This node's copy of the registered clients, including disabled and deleted ones."""

    def __init__(self, store: ClientStore, profile: SecurityProfile = SecurityProfile.NONE) -> None:
        """`profile`: the security profile of every client, whatever its own is."""
        self._store = store
        self._profile = profile
        self._clients: dict[str, Client] = {}
        self._loading = asyncio.Lock()
        self._listeners: list[Callable[[Collection[str]], None]] = []
        self._by_name: dict[str, list[str]] | None = None
        """Clients by the name in their certificate; None: to be collected at the next use."""
        self._origins = Origins()
        self.certificate_changes = 0
        """Counts the changes of clients that authenticate with a certificate."""
        self.revision = -1
        """The revision of the copy; -1 before the first load."""

    def __len__(self) -> int:
        """Return the number of known clients."""
        return len(self._clients)

    @property
    def active(self) -> int:
        """The number of active clients."""
        return sum(client.state is ClientState.ACTIVE for client in self._clients.values())

    def on_change(self, listener: Callable[[Collection[str]], None]) -> None:
        """Call `listener` with the ids of the clients that have changed, after each change of the copy."""
        self._listeners.append(listener)

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state, even a deleted one; None if the id was never registered."""
        return self._clients.get(client_id)

    async def resolve(self, client_id: str, asker: Hashable) -> Client | None:
        """Return a client as `get` does. The registry is whole, so nothing is fetched."""
        return self.get(client_id)

    def of_certificate(self, names: Iterable[str]) -> Client | None:
        """Return the active `tls_client_auth` client that is registered with one of the names in a certificate.

        None if no client is, or several are: the certificate then identifies none of them.
        """
        if self._by_name is None:
            self._by_name = self._named()
        found = {client_id for name in names for client_id in self._by_name.get(name, ())}
        return self._clients[found.pop()] if len(found) == 1 else None

    def _named(self) -> dict[str, list[str]]:
        """Return the ids of active `tls_client_auth` clients by the name in their certificate."""
        named: dict[str, list[str]] = {}
        for client in self._clients.values():
            if client.state is ClientState.ACTIVE and _has_certificate(client):
                name = client.tls_client_auth_san_uri or client.tls_client_auth_san_dns
                named.setdefault(name, []).append(client.client_id)
        return named

    def has_origin(self, origin: str) -> bool:
        """Tell whether any active client is registered with an origin of web pages."""
        return origin in self._origins

    def classification(self, client_id: str) -> str | None:
        """Return the classification that a client is registered with; None without one."""
        client = self._clients.get(client_id)
        return (client.classification or None) if client is not None else None

    async def refresh(self, *, revision: int | None = None) -> None:
        """Load the clients that have changed, unless the copy has `revision` already.

        Raises `StoreUnavailableError`.
        """
        if revision is not None and revision <= self.revision:
            # A lower one is from a head that was read before this node's own change, or from a restored database.
            if revision == self.revision or not await self._is_behind():
                return
            logger.warning("the registry of clients was restored to an earlier state; it is loaded again")
            await self.start_over()
            return
        async with self._loading:
            if revision is not None and revision <= self.revision:
                return  # another call has loaded it meanwhile
            stored = await self._load(self.revision)
            before = [self._clients.get(client.client_id) for client in stored.clients]
            self._clients.update((client.client_id, client) for client in stored.clients)
            for old, client in zip(before, stored.clients, strict=True):
                self._origins.replace(old, client)
            if any(map(_has_certificate, (*before, *stored.clients))):
                self._names_changed()
            self.revision = max(self.revision, stored.revision)
            self._tell([client.client_id for client in stored.clients])

    async def start_over(self) -> None:
        """Load all clients of another database or of a restored one. Raises `StoreUnavailableError`."""
        async with self._loading:
            stored = await self._load()
            before = self._clients
            self._clients = {client.client_id: client for client in stored.clients}
            self._origins = Origins()
            for client in stored.clients:
                self._origins.replace(None, client)
            self.revision = stored.revision
            self._names_changed()
            self._tell(
                [id_ for id_ in {**before, **self._clients} if before.get(id_) != self._clients.get(id_)]
            )

    async def _load(self, after: int = -1) -> StoredClients:
        stored = await self._store.load(after)
        if self._profile is SecurityProfile.NONE:
            return stored
        raised = [structs.replace(client, security_profile=self._profile) for client in stored.clients]
        return StoredClients(stored.revision, raised)

    async def _is_behind(self) -> bool:
        """Tell whether the database has a lower revision than the copy, in a read that begins now."""
        known = self.revision
        return (await self._store.load(known)).revision < known

    def _names_changed(self) -> None:
        self._by_name = None
        self.certificate_changes += 1

    def _tell(self, changed: Collection[str]) -> None:
        if changed:
            for listener in self._listeners:
                listener(changed)


def _has_certificate(client: Client | None) -> bool:
    return client is not None and client.token_endpoint_auth_method is AuthMethod.TLS_CLIENT_AUTH

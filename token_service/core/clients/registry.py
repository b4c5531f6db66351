"""The client registry in memory: this node's copy of all registered clients.

All nodes share the client store. A look-up costs no I/O. The copy is amended whenever the revision in the log head
shows a change, and replaced when the database was restored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from token_service.core.clients.client import Client
from token_service.core.clients.store import ClientStore

logger = logging.getLogger(__name__)


class ClientRegistry:
    """This node's copy of the registered clients, including disabled and deleted ones."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store
        self._clients: dict[str, Client] = {}
        self._loading = asyncio.Lock()
        self._listeners: list[Callable[[Collection[str]], None]] = []
        self.revision = -1
        """The revision of the copy; -1 before the first load."""

    def __len__(self) -> int:
        """Return the number of known clients."""
        return len(self._clients)

    def on_change(self, listener: Callable[[Collection[str]], None]) -> None:
        """Call `listener` with the ids of the clients that have changed, after each change of the copy."""
        self._listeners.append(listener)

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state, even a deleted one; None if the id was never registered."""
        return self._clients.get(client_id)

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
            stored = await self._store.load(self.revision)
            self._clients.update((client.client_id, client) for client in stored.clients)
            self.revision = max(self.revision, stored.revision)
            self._tell([client.client_id for client in stored.clients])

    async def start_over(self) -> None:
        """Load all clients of another database or of a restored one. Raises `StoreUnavailableError`."""
        async with self._loading:
            stored = await self._store.load()
            before = self._clients
            self._clients = {client.client_id: client for client in stored.clients}
            self.revision = stored.revision
            self._tell(
                [id_ for id_ in {**before, **self._clients} if before.get(id_) != self._clients.get(id_)]
            )

    async def _is_behind(self) -> bool:
        """Tell whether the database has a lower revision than the copy, in a read that begins now."""
        known = self.revision
        return (await self._store.load(known)).revision < known

    def _tell(self, changed: Collection[str]) -> None:
        if changed:
            for listener in self._listeners:
                listener(changed)

"""The client store: the port for registered clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from token_service.core.clients.client import Client, ClientState


@dataclass(frozen=True, slots=True)
class StoredClients:
    """Clients in one snapshot, including disabled and deleted ones."""

    revision: int
    """The revision of the registry."""
    clients: Sequence[Client]


@dataclass(frozen=True, slots=True)
class ClientPosition:
    """The place of a client in the list."""

    create_time: float
    client_id: str


@dataclass(frozen=True, slots=True)
class ClientEnd:
    """The end of a client, which a revocation of the client brings about in its own transaction."""

    state: ClientState
    """DISABLED ends an active client, DELETED any client that is not deleted."""
    revision: int | None = None
    """The revision that the client must have; None: any."""


class ClientStore(Protocol):
    """Registered clients, shared by all nodes.

    Every change raises the revision of the registry, which `LogHead.client_revision` shows, by one in the same
    transaction, and gives it to the changed client. Changes commit in the order of their revisions. Clients are
    disabled and deleted through `RevocationLog.append`, with a `ClientEnd`.
    """

    async def create(self, client: Client) -> Client | None:
        """Add a client; return it with its revision.

        Changes nothing and returns None if the id is that of another client, even of a deleted one.
        """
        ...

    async def save(self, client: Client) -> Client | None:
        """Replace a client whose revision is `client.revision`; return it with its new revision.

        The state becomes ACTIVE or DISABLED. The last use of a secret is never changed. Changes nothing and returns
        None if the client has another revision or is deleted.
        """
        ...

    async def note_use(self, client_id: str, secret_id: str, time: float) -> None:
        """Record a use of a secret, unless a later one is recorded. The revision stays the same."""
        ...

    async def get(self, client_id: str) -> Client | None:
        """Return a client, even a deleted one; None if the id was never registered."""
        ...

    async def list(self, limit: int, after: ClientPosition | None) -> Sequence[Client]:
        """Return up to `limit` clients that are not deleted, newest first, from a position on."""
        ...

    async def load(self, after: int = -1) -> StoredClients:
        """Return the clients that changed after a revision, by default all of them.

        A client that can't be read from its row is returned as disabled, with an entry in the log.
        """
        ...

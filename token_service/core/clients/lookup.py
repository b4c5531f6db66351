"""The port for looking up clients, whatever describes them: the registry or a metadata document."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from token_service.core.clients.client import Client


class ClientLookup(Protocol):
    """Clients in memory."""

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state; None if it is unknown."""


class Clients(ClientLookup, Protocol):
    """Clients in memory, some of which may have to be fetched first."""

    def classification(self, client_id: str) -> str | None:
        """Return the classification that a client is described with; None without one."""

    async def resolve(self, client_id: str, asker: Hashable) -> Client | None:
        """Return a client as `get` does, after it was fetched if necessary.

        `asker` is the caller or the network on whose request a fetch is made, for its quota. Raises
        `ClientDocumentUnavailableError` and `OverloadedError`.
        """

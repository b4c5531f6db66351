"""What the commands do with clients: in the database, or at a running service."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.config import Settings
from token_service.core.clients.client import Client, ClientMetadata
from token_service.errors import ClientNotFoundError
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.core.access.caller import Caller
    from token_service.core.administration.clients import ClientAdministration

T = TypeVar("T")


class ClientActions(Protocol):
    """The clients of one place. Each method raises `ServiceError`."""

    def create(
        self, client_id: str, metadata: ClientMetadata, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Register a client; return it and the secret that was made for it."""
        ...

    def get(self, client_id: str) -> Client:
        """Return a client."""
        ...

    def list(self) -> Sequence[Client]:
        """Return all clients, newest first."""
        ...

    def update(self, client_id: str, changes: Mapping[str, Any], etag: str) -> Client:
        """Change settings."""
        ...

    def rotate_secret(
        self, client_id: str, etag: str, overlap: float, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Make another secret."""
        ...

    def disable(self, client_id: str, etag: str, comment: str) -> Client:
        """Disable a client and revoke its tokens."""
        ...

    def enable(self, client_id: str, etag: str) -> Client:
        """Enable a client."""
        ...

    def delete(self, client_id: str, etag: str, comment: str) -> None:
        """Delete a client and revoke its tokens."""
        ...


def clients_of(place: Settings | Service) -> ClientActions:
    """Return the clients of a database or of a running service."""
    if isinstance(place, Settings):
        return StoredClients(place)
    from token_service.cli.clients.remote import RemoteClients

    return RemoteClients(place)


class StoredClients:
    """The clients in the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(
        self, client_id: str, metadata: ClientMetadata, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Register a client."""
        made = self._do(
            lambda clients, caller: clients.create(
                caller, client_id, metadata, time.time(), secret_ttl=secret_ttl
            )
        )
        return made.client, made.secret

    def get(self, client_id: str) -> Client:
        """Return a client."""
        return self._do(lambda clients, caller: clients.get(caller, client_id))

    def list(self) -> Sequence[Client]:
        """Return all clients."""

        async def load(clients: ClientAdministration, caller: Caller) -> Sequence[Client]:
            page = await clients.list(caller, 200, "")
            found = [*page.clients]
            while page.next_page_token:
                page = await clients.list(caller, 200, page.next_page_token)
                found += page.clients
            return found

        return self._do(load)

    def update(self, client_id: str, changes: Mapping[str, Any], etag: str) -> Client:
        """Change settings."""
        return self._do(
            lambda clients, caller: clients.update(caller, client_id, changes, time.time(), etag=etag)
        )

    def rotate_secret(
        self, client_id: str, etag: str, overlap: float, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Make another secret."""
        made = self._do(
            lambda clients, caller: clients.rotate_secret(
                caller, client_id, time.time(), etag=etag, overlap=overlap, secret_ttl=secret_ttl
            )
        )
        return made.client, made.secret

    def disable(self, client_id: str, etag: str, comment: str) -> Client:
        """Disable a client."""
        return self._do(
            lambda clients, caller: clients.disable(
                caller, client_id, time.time(), etag=etag, comment=comment
            )
        ).client

    def enable(self, client_id: str, etag: str) -> Client:
        """Enable a client."""
        return self._do(lambda clients, caller: clients.enable(caller, client_id, time.time(), etag=etag))

    def delete(self, client_id: str, etag: str, comment: str) -> None:
        """Delete a client."""
        self._do(
            lambda clients, caller: clients.delete(caller, client_id, time.time(), etag=etag, comment=comment)
        )

    def _do(self, work: Callable[[ClientAdministration, Caller], Awaitable[T]]) -> T:
        from token_service.app.administration import administer_clients, operator

        async def run() -> T:
            async with administer_clients(self._settings, os.environ) as clients:
                return await work(clients, operator())

        try:
            return asyncio.run(run())
        except ClientNotFoundError as error:
            raise CommandFailedError(
                f"{error.message}; `token-service clients list` shows all", ExitCode.NOT_FOUND
            ) from None

"""ClientService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.clients import DEFAULT_OVERLAP, ClientAdministration
from token_service.rpc.convert.clients import (
    client_changes,
    client_message,
    client_metadata,
    optional_seconds,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.tokens.secret import Secret
from token_service.v1 import client_service_pb2 as pb


class ClientService:
    """The methods of ClientService."""

    name: Final = pb.DESCRIPTOR.services_by_name["ClientService"].full_name
    is_serving: Final = True

    def __init__(self, clients: ClientAdministration, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("CreateClient", pb.CreateClientRequest, self.CreateClient),
            UnaryMethod("GetClient", pb.GetClientRequest, self.GetClient),
            UnaryMethod("ListClients", pb.ListClientsRequest, self.ListClients),
            UnaryMethod("UpdateClient", pb.UpdateClientRequest, self.UpdateClient),
            UnaryMethod("RotateClientSecret", pb.RotateClientSecretRequest, self.RotateClientSecret),
            UnaryMethod("DisableClient", pb.DisableClientRequest, self.DisableClient),
            UnaryMethod("EnableClient", pb.EnableClientRequest, self.EnableClient),
            UnaryMethod("DeleteClient", pb.DeleteClientRequest, self.DeleteClient),
        )

    async def CreateClient(self, request: pb.CreateClientRequest, caller: Caller) -> pb.CreateClientResponse:
        """Register a client."""
        created = await self._clients.create(
            caller,
            request.client.client_id,
            client_metadata(request),
            self._clock.now(),
            secret_ttl=optional_seconds(request, "secret_ttl"),
        )
        return pb.CreateClientResponse(
            client=client_message(created.client), client_secret=_text(created.secret)
        )

    async def GetClient(self, request: pb.GetClientRequest, caller: Caller) -> pb.GetClientResponse:
        """Return one client."""
        client = await self._clients.get(caller, request.client_id)
        return pb.GetClientResponse(client=client_message(client))

    async def ListClients(self, request: pb.ListClientsRequest, caller: Caller) -> pb.ListClientsResponse:
        """Return a page of the clients."""
        page = await self._clients.list(caller, request.page_size, request.page_token)
        return pb.ListClientsResponse(
            clients=map(client_message, page.clients), next_page_token=page.next_page_token
        )

    async def UpdateClient(self, request: pb.UpdateClientRequest, caller: Caller) -> pb.UpdateClientResponse:
        """Change the settings that the mask names."""
        client = await self._clients.update(
            caller,
            request.client.client_id,
            client_changes(request),
            self._clock.now(),
            etag=request.client.etag,
        )
        return pb.UpdateClientResponse(client=client_message(client))

    async def RotateClientSecret(
        self, request: pb.RotateClientSecretRequest, caller: Caller
    ) -> pb.RotateClientSecretResponse:
        """Make another secret."""
        overlap = optional_seconds(request, "overlap")
        rotated = await self._clients.rotate_secret(
            caller,
            request.client_id,
            self._clock.now(),
            etag=request.etag,
            overlap=DEFAULT_OVERLAP if overlap is None else overlap,
            secret_ttl=optional_seconds(request, "secret_ttl"),
        )
        return pb.RotateClientSecretResponse(
            client=client_message(rotated.client), client_secret=_text(rotated.secret)
        )

    async def DisableClient(
        self, request: pb.DisableClientRequest, caller: Caller
    ) -> pb.DisableClientResponse:
        """Disable a client and revoke its tokens."""
        disabled = await self._clients.disable(
            caller, request.client_id, self._clock.now(), etag=request.etag, comment=request.comment
        )
        return pb.DisableClientResponse(client=client_message(disabled.client), cursor=str(disabled.cursor))

    async def EnableClient(self, request: pb.EnableClientRequest, caller: Caller) -> pb.EnableClientResponse:
        """Let a client get tokens again."""
        client = await self._clients.enable(caller, request.client_id, self._clock.now(), etag=request.etag)
        return pb.EnableClientResponse(client=client_message(client))

    async def DeleteClient(self, request: pb.DeleteClientRequest, caller: Caller) -> pb.DeleteClientResponse:
        """Delete a client and revoke its tokens."""
        cursor = await self._clients.delete(
            caller, request.client_id, self._clock.now(), etag=request.etag, comment=request.comment
        )
        return pb.DeleteClientResponse(cursor=str(cursor))


def _text(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal().decode()

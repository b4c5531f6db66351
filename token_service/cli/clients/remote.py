"""The clients of a running service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from msgspec import structs

from token_service.cli.remote.service import Service
from token_service.core.clients.client import Client, ClientMetadata
from token_service.rpc.convert.clients import client_message, client_of
from token_service.tokens.secret import Secret
from token_service.v1 import client_service_pb2 as pb


class RemoteClients:
    """The clients of a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stub = service.clients

    def create(
        self, client_id: str, metadata: ClientMetadata, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Register a client."""
        request = pb.CreateClientRequest(
            client=_message(client_id, structs.asdict(metadata)), secret_ttl=_duration(secret_ttl)
        )
        response = self._service.call(self._stub.CreateClient, request)
        return client_of(response.client), _secret(response.client_secret)

    def get(self, client_id: str) -> Client:
        """Return a client."""
        request = pb.GetClientRequest(client_id=client_id)
        return client_of(self._service.call(self._stub.GetClient, request).client)

    def list(self) -> Sequence[Client]:
        """Return all clients."""
        found: list[Client] = []
        page_token = ""
        while True:
            request = pb.ListClientsRequest(page_size=200, page_token=page_token)
            page = self._service.call(self._stub.ListClients, request)
            found += map(client_of, page.clients)
            page_token = page.next_page_token
            if not page_token:
                return found

    def update(self, client_id: str, changes: Mapping[str, Any], etag: str) -> Client:
        """Change settings."""
        request = pb.UpdateClientRequest(
            client=_message(client_id, changes, etag), update_mask=FieldMask(paths=list(changes))
        )
        return client_of(self._service.call(self._stub.UpdateClient, request).client)

    def rotate_secret(
        self, client_id: str, etag: str, overlap: float, secret_ttl: float | None
    ) -> tuple[Client, Secret | None]:
        """Make another secret."""
        request = pb.RotateClientSecretRequest(
            client_id=client_id, etag=etag, overlap=_duration(overlap), secret_ttl=_duration(secret_ttl)
        )
        response = self._service.call(self._stub.RotateClientSecret, request)
        return client_of(response.client), _secret(response.client_secret)

    def disable(self, client_id: str, etag: str, comment: str) -> Client:
        """Disable a client."""
        request = pb.DisableClientRequest(client_id=client_id, etag=etag, comment=comment)
        return client_of(self._service.call(self._stub.DisableClient, request).client)

    def enable(self, client_id: str, etag: str) -> Client:
        """Enable a client."""
        request = pb.EnableClientRequest(client_id=client_id, etag=etag)
        return client_of(self._service.call(self._stub.EnableClient, request).client)

    def delete(self, client_id: str, etag: str, comment: str) -> None:
        """Delete a client."""
        request = pb.DeleteClientRequest(client_id=client_id, etag=etag, comment=comment)
        self._service.call(self._stub.DeleteClient, request)


def _message(client_id: str, settings: Mapping[str, Any], etag: str = "") -> pb.Client:
    message = client_message(Client(client_id=client_id, create_time=0, update_time=0, **settings))
    for name in ("state", "create_time", "update_time"):  # the service sets them
        message.ClearField(name)
    message.etag = etag
    return message


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration


def _secret(text: str) -> Secret | None:
    return Secret(text.encode()) if text else None

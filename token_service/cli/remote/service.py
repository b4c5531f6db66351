"""A running service, called over gRPC."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar

# gRPC reads this when it is loaded. Without it, its C library writes lines about failed handshakes beside the message.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from token_service.cli.remote.connection import Connection
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub
from token_service.v1.audit_service_pb2_grpc import AuditServiceStub
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.event_service_pb2_grpc import EventServiceStub
from token_service.v1.key_service_pb2_grpc import KeyServiceStub
from token_service.v1.session_service_pb2_grpc import SessionServiceStub
from token_service.v1.token_service_pb2_grpc import TokenServiceStub
from token_service.wire import error_from_rpc

if TYPE_CHECKING:
    from types import TracebackType

Request = TypeVar("Request")
Response = TypeVar("Response")


class Service:
    """A running service. `with` closes its connection."""

    def __init__(self, connection: Connection) -> None:
        """Configure the connection. Raises `ConfigurationError`."""
        self.connection = connection
        self._channel = connection.open_channel()

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Call a method of one of the stubs, with the proof of the caller. Raises `ServiceError`.

        `timeout` is in seconds; by default that of the connection.
        """
        try:
            return method(
                request,
                timeout=self.connection.timeout if timeout is None else timeout,
                metadata=self.connection.proof.metadata(),
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    @cached_property
    def tokens(self) -> TokenServiceStub:
        """The methods of TokenService."""
        return TokenServiceStub(self._channel)

    @cached_property
    def sessions(self) -> SessionServiceStub:
        """The methods of SessionService."""
        return SessionServiceStub(self._channel)

    @cached_property
    def clients(self) -> ClientServiceStub:
        """The methods of ClientService."""
        return ClientServiceStub(self._channel)

    @cached_property
    def keys(self) -> KeyServiceStub:
        """The methods of KeyService."""
        return KeyServiceStub(self._channel)

    @cached_property
    def audit(self) -> AuditServiceStub:
        """The methods of AuditService."""
        return AuditServiceStub(self._channel)

    @cached_property
    def events(self) -> EventServiceStub:
        """The methods of EventService."""
        return EventServiceStub(self._channel)

    @cached_property
    def admin(self) -> AdminServiceStub:
        """The methods of AdminService."""
        return AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        """Return the service."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._channel.close()

"""A gRPC server for tests of commands: it answers each method with a function, and keeps what it was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc

from token_service.errors import ServiceError
from token_service.v1 import (
    admin_service_pb2_grpc,
    audit_service_pb2_grpc,
    client_service_pb2_grpc,
    event_service_pb2_grpc,
    key_service_pb2_grpc,
    session_service_pb2_grpc,
    token_service_pb2_grpc,
)
from token_service.wire import error_to_status

_SERVICES = {
    "TokenService": token_service_pb2_grpc.add_TokenServiceServicer_to_server,
    "SessionService": session_service_pb2_grpc.add_SessionServiceServicer_to_server,
    "ClientService": client_service_pb2_grpc.add_ClientServiceServicer_to_server,
    "KeyService": key_service_pb2_grpc.add_KeyServiceServicer_to_server,
    "AuditService": audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
    "EventService": event_service_pb2_grpc.add_EventServiceServicer_to_server,
    "AdminService": admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
}


class CommandService:
    """A server on loopback. A method without an answer is UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any] | ServiceError | Any] = {}
        """The response of each method, a function that returns or raises it, or the error."""
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.metadata: dict[str, str] = {}
        """The metadata of the last call."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        for add in _SERVICES.values():
            add(self, self._server)  # type: ignore[operator]
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def target(self) -> str:
        """The address."""
        return f"127.0.0.1:{self._port}"

    def __getattr__(self, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        """Return the handler of a method."""
        if not method[0].isupper():
            raise AttributeError(method)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            self.requests[method].append(request)
            self.metadata = {name: str(value) for name, value in context.invocation_metadata()}
            if method not in self.answers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            answer = self.answers[method]
            try:
                if isinstance(answer, ServiceError):
                    raise answer
                return answer(request) if callable(answer) else answer
            except ServiceError as error:
                code, message, trailers = error_to_status(error)
                context.set_trailing_metadata(trailers)
                context.abort(code, message)

        return handle

    def __enter__(self) -> Self:
        """Start."""
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.stop(None).wait()

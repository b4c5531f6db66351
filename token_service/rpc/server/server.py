"""The gRPC server of a node: services, health, reflection, TLS, and graceful shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from token_service.certificates.server import TlsFiles
from token_service.core.access.gate import NEEDED, UseCase
from token_service.core.access.refusals import Refusals
from token_service.errors import ConfigurationError
from token_service.listening import bind_all
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.deadlines import Deadlines
from token_service.rpc.server.edge import CallLimits, Edge
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.server.metered import metered
from token_service.rpc.server.reception import Reception
from token_service.rpc.server.service import Service, StreamMethod, UnaryMethod
from token_service.rpc.server.standard_services import PlainServices
from token_service.rpc.server.tls import ReloadingCredentials
from token_service.rpc.server.traced import traced
from token_service.rpc.server.unix_socket import UnixSocketPath
from token_service.telemetry import Metrics, Tracer
from token_service.telemetry.registry import CALL_DURATION, REFUSALS

_WATCH_INTERVAL: Final = 0.5
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class _Methods(grpc.GenericRpcHandler):
    """All methods, by path."""

    def __init__(self, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._methods = methods

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a method; None if the method is unknown."""
        return self._methods.get(handler_call_details.method)


class GrpcServer:
    """Serves services over gRPC. `start` once, `run` until it is stopped, `stop` once."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        limits: GrpcLimits,
        authorizer: Authorizer,
        address: str,
        reuse_port: bool,
        tls: TlsFiles | None,
        metrics: Metrics,
        token_address: str | None = None,
        refusals: Refusals | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Configure the server; `address` is `host:port` (port 0: any free port) or `unix:path`.

        `token_address`: a second `host:port` with the TLS of `tls` but without client certificates.
        """
        self._services = [(service, service.methods()) for service in services]
        self._streams = [
            method.streams
            for _, methods in self._services
            for method in methods
            if isinstance(method, StreamMethod)
        ]
        self._limits = limits
        self._address = address
        self._unix_path = UnixSocketPath(address) if address.startswith("unix:") else None
        self._reuse_port = reuse_port
        self._tls = tls
        self._token_address = token_address
        self.bound_token_address = ""
        """`token_address` with the bound port, after `start`."""
        self._duration = metrics.histogram(CALL_DURATION)
        self._tracer = tracer
        self._deadlines = Deadlines()
        reception = Reception(
            self._deadlines, at_once=limits.reads_per_caller, timeout=limits.request_timeout
        )
        self._edge = Edge(
            authorizer,
            reception,
            self._deadlines,
            CallLimits(
                max_calls=limits.max_concurrent_calls,
                calls_per_caller=limits.max_calls_per_caller,
                max_waits=limits.max_waits,
                waits_per_caller=limits.max_waits_per_caller,
                unread_bytes_per_caller=limits.max_unread_bytes_per_caller,
                default_deadline=limits.default_deadline,
                max_deadline=limits.max_deadline,
            ),
            refusals,
            metrics.counter(REFUSALS),
        )
        self._plain = PlainServices((*(service.name for service in services), _HEALTH), reception)
        self._server: grpc.aio.Server | None = None

    def limit_calls(self, most: int, per_caller: int) -> None:
        """Change the number of concurrent calls, of all callers and of each. Running calls go on."""
        self._edge.limit_calls(most, per_caller)

    async def start(self) -> str:
        """Bind and serve; return the address with the bound port.

        Raises `ConfigurationError` if the address can't be bound.
        """
        server = grpc.aio.server(
            options=[("grpc.so_reuseport", int(self._reuse_port)), *self._limits.options()]
        )
        # One generic handler instead of registered methods: with those, the server waits on every method for each
        # call.
        server.add_generic_rpc_handlers((_Methods({**self._plain.methods, **self._methods()}),))
        try:
            address = self._bind(server)
            if self._token_address is not None:
                self.bound_token_address = self._bind_port(
                    server, self._token_address, _without_client_certificates(self._tls)
                )
            self._watch_once()
            await server.start()
        except BaseException:
            if self._unix_path is not None:
                self._unix_path.release()
            raise
        self._server = server
        return address

    async def stop(self, grace: float) -> None:
        """Report NOT_SERVING, end streams so that readers resume on another node, and let running calls finish for
        `grace` seconds.
        """
        if self._server is not None:
            await self._plain.close()
            for streams in self._streams:
                streams.close()
            await self._server.stop(grace)
            if self._unix_path is not None:
                self._unix_path.release()
        for streams in self._streams:
            await streams.aclose()

    def _bind(self, server: grpc.aio.Server) -> str:
        if self._unix_path is not None:
            self._unix_path.take()
            self._add_port(server, self._unix_path.target, self._tls)
            self._unix_path.share()
            return self._address
        return self._bind_port(server, self._address, self._tls)

    def _bind_port(self, server: grpc.aio.Server, address: str, tls: TlsFiles | None) -> str:
        host, _, port = address.rpartition(":")
        if int(port) and not self._reuse_port:
            # gRPC accepts one of several addresses of a name, and gives no reason for those that failed.
            try:
                for probe in bind_all(host.strip("[]"), int(port)):
                    probe.close()
            except OSError as error:
                raise self._refusal(address, f" ({error.strerror})") from None
        return f"{host}:{self._add_port(server, address, tls)}"

    def _add_port(self, server: grpc.aio.Server, target: str, tls: TlsFiles | None) -> int:
        try:
            if tls is None:
                return server.add_insecure_port(target)
            return server.add_secure_port(target, ReloadingCredentials(tls).credentials())
        except RuntimeError:  # its text gives no reason, only advice on debugging gRPC
            raise self._refusal(target) from None

    def _refusal(self, address: str, why: str = "") -> ConfigurationError:
        name = "grpc-token-address" if address == self._token_address else "grpc-address"
        return ConfigurationError(
            f"TOKEN_SERVICE_{name.replace('-', '_').upper()}: can't listen on {address}{why}; choose another with "
            f"--{name} HOST:PORT"
        )

    def _methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            path: self._handler(path, method)
            for service, methods in self._services
            for method in methods
            for path in (f"/{service.name}/{method.name}",)
        }

    def _handler(self, path: str, method: UnaryMethod | StreamMethod) -> grpc.RpcMethodHandler[Any, Any]:
        handler = self._measured(path, method)
        return handler if self._tracer is None else traced(path, handler, self._tracer)

    def _measured(self, path: str, method: UnaryMethod | StreamMethod) -> grpc.RpcMethodHandler[Any, Any]:
        needed = NEEDED[UseCase(method.name)]
        if isinstance(method, StreamMethod):
            assert needed is not None  # a stream ends when its caller loses the permission
            return self._edge.stream(path, needed, method.request_type, method.streams.stream)
        handler = self._edge.unary(
            path,
            needed,
            method.request_type,
            method.handle,
            at_once=method.at_once,
            waits=method.waits,
        )
        return handler if self._duration is None else metered(path, handler, self._duration)

    async def run(self) -> None:
        """Enforce the time limits of calls and streams and update this node's health, until cancelled. The owner of
        the server runs it.
        """
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            self._deadlines.sweep()
            for streams in self._streams:
                streams.sweep()
            self._watch_once()

    def _watch_once(self) -> None:
        """Set the health of each service. The server as a whole serves if every service does."""
        every = True
        for service, _ in self._services:
            is_serving = service.is_serving
            every = every and is_serving
            self._plain.health.set(service.name, _SERVING if is_serving else _NOT_SERVING)
        self._plain.health.set("", _SERVING if every else _NOT_SERVING)


def _without_client_certificates(tls: TlsFiles | None) -> TlsFiles | None:
    return None if tls is None else replace(tls, client_ca=None)

"""The gRPC server of a node: all services, health, reflection, TLS, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from token_service.clock import Clock
from token_service.core.access.gate import NEEDED, UseCase
from token_service.core.access.permissions import Permission
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.refresher import Refresher
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import Revoker
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.browsing import Sessions
from token_service.core.subscribers.registry import Validators
from token_service.core.validation.introspector import Introspector
from token_service.errors import ConfigurationError, ReplicaStaleError
from token_service.listening import bind_all
from token_service.rpc.convert.requests import is_waiting
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.deadlines import Deadlines
from token_service.rpc.server.edge import CallLimits, Edge
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.server.metered import metered
from token_service.rpc.server.reception import Reception
from token_service.rpc.server.standard_services import PlainServices
from token_service.rpc.server.tls import ReloadingCredentials, TlsFiles
from token_service.rpc.server.unix_socket import UnixSocketPath
from token_service.rpc.services.key_service import KeyService
from token_service.rpc.services.session_service import SessionService
from token_service.rpc.services.token_service import TokenService
from token_service.rpc.stream.feed import Feed
from token_service.telemetry import Metrics
from token_service.v1 import key_service_pb2, session_service_pb2, token_service_pb2

__all__ = ["GrpcServer", "TlsFiles"]

_WATCH_INTERVAL: Final = 0.5
_DURATIONS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds, from an answer out of memory to one that waited for the database."""

_TOKEN_SERVICE: Final = token_service_pb2.DESCRIPTOR.services_by_name["TokenService"].full_name
_SESSION_SERVICE: Final = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
_KEY_SERVICE: Final = key_service_pb2.DESCRIPTOR.services_by_name["KeyService"].full_name
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
        """The handler of a method; None if there is no such method."""
        return self._methods.get(handler_call_details.method)


class GrpcServer:
    """Serves the use cases over gRPC. `start` once, `run` until it is stopped, `stop` once."""

    def __init__(
        self,
        *,
        issuer: Issuer,
        refresher: Refresher,
        revoker: Revoker,
        introspector: Introspector,
        sessions: Sessions,
        keyring: Keyring,
        key_manager: KeyManager,
        replica: Replica,
        log: RevocationLog,
        read_index: ReadIndex,
        tailer: Tailer,
        validators: Validators,
        clock: Clock,
        issuer_name: str,
        limits: GrpcLimits,
        authorizer: Authorizer,
        address: str,
        reuse_port: bool,
        tls: TlsFiles | None,
        metrics: Metrics,
    ) -> None:
        """`address`: `host:port` (0: any free port) or `unix:path`.

        The keyring must be loaded, the replica at some place of the log.
        """
        self._tailer = tailer
        self._limits = limits
        self._address = address
        self._unix_path = UnixSocketPath(address) if address.startswith("unix:") else None
        self._reuse_port = reuse_port
        self._tls = tls
        self._duration = metrics.histogram(
            "rpc.server.call.duration", "How long calls took, by method and status.", _DURATIONS
        )
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
        )
        self.feed = Feed(
            replica,
            log,
            read_index,
            tailer,
            keyring,
            validators,
            authorizer,
            clock,
            issuer=issuer_name,
            max_streams=limits.max_streams,
            streams_per_caller=limits.max_streams_per_caller,
            max_age=limits.stream_max_age,
            max_stall=limits.stream_max_stall,
            ring_capacity=limits.ring_capacity,
        )
        self._tokens = TokenService(
            issuer, refresher, revoker, introspector, replica, read_index, validators, clock, issuer_name
        )
        self._sessions = SessionService(sessions, clock)
        self._keys = KeyService(keyring, key_manager, revoker, clock, issuer_name)
        self._plain = PlainServices((_TOKEN_SERVICE, _SESSION_SERVICE, _KEY_SERVICE, _HEALTH), reception)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Bind and serve; the address, with the port that was bound.

        Raises `ConfigurationError` if that is impossible.
        """
        server = grpc.aio.server(
            options=[("grpc.so_reuseport", int(self._reuse_port)), *self._limits.options()]
        )
        # One generic handler instead of registered methods: for each call the server waits on every
        # registered method anew.
        server.add_generic_rpc_handlers((_Methods({**self._plain.methods, **self._methods()}),))
        try:
            address = self._bind(server)
            self._watch_once()
            await server.start()
        except BaseException:
            if self._unix_path is not None:
                self._unix_path.release()
            raise
        self._server = server
        return address

    async def stop(self, grace: float) -> None:
        """Say that it stops, end streams so that they are resumed elsewhere, let running calls finish for
        `grace` seconds.
        """
        if self._server is not None:
            await self._plain.close()
            self.feed.close()
            await self._server.stop(grace)
            if self._unix_path is not None:
                self._unix_path.release()
        await self.feed.aclose()

    def _bind(self, server: grpc.aio.Server) -> str:
        if self._unix_path is not None:
            self._unix_path.take()
            self._add_port(server, self._unix_path.target)
            self._unix_path.share()
            return self._address
        host, _, port = self._address.rpartition(":")
        if int(port) and not self._reuse_port:
            # gRPC is content with one of several addresses of a name and says of none why it failed.
            try:
                for probe in bind_all(host.strip("[]"), int(port)):
                    probe.close()
            except OSError as error:
                raise self._refusal(f" ({error.strerror})") from None
        return f"{host}:{self._add_port(server, self._address)}"

    def _add_port(self, server: grpc.aio.Server, target: str) -> int:
        try:
            if self._tls is None:
                return server.add_insecure_port(target)
            return server.add_secure_port(target, ReloadingCredentials(self._tls).credentials())
        except RuntimeError:  # whose text gives no reason but advice on how to debug gRPC
            raise self._refusal() from None

    def _refusal(self, why: str = "") -> ConfigurationError:
        return ConfigurationError(
            f"TOKEN_SERVICE_GRPC_ADDRESS: can't listen on {self._address}{why}; choose another with "
            "--grpc-address HOST:PORT"
        )

    def _methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        edge, tokens, sessions, keys = self._edge, self._tokens, self._sessions, self._keys
        pb, sessions_pb, keys_pb = token_service_pb2, session_service_pb2, key_service_pb2
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

        def unary(
            service: str,
            request_type: type[Message],
            handle: Callable[..., Any],
            **options: Any,
        ) -> None:
            path = f"/{service}/{handle.__name__}"
            handler = edge.unary(path, NEEDED[UseCase(handle.__name__)], request_type, handle, **options)
            methods[path] = handler if self._duration is None else metered(path, handler, self._duration)

        unary(_TOKEN_SERVICE, pb.IssueTokenRequest, tokens.IssueToken)
        unary(
            _TOKEN_SERVICE,
            pb.ValidateTokenRequest,
            tokens.ValidateToken,
            at_once=tokens.validate_at_once,
        )
        unary(_TOKEN_SERVICE, pb.BatchValidateTokensRequest, tokens.BatchValidateTokens)
        unary(_TOKEN_SERVICE, pb.RefreshTokenRequest, tokens.RefreshToken)
        unary(_TOKEN_SERVICE, pb.RevokeTokenRequest, tokens.RevokeToken, waits=is_waiting)
        unary(_TOKEN_SERVICE, pb.ConfirmRevocationsRequest, tokens.ConfirmRevocations)
        unary(_SESSION_SERVICE, sessions_pb.GetSessionRequest, sessions.GetSession)
        unary(_SESSION_SERVICE, sessions_pb.ListSessionsRequest, sessions.ListSessions)
        unary(_SESSION_SERVICE, sessions_pb.ExtendSessionRequest, sessions.ExtendSession)
        unary(_KEY_SERVICE, keys_pb.GetKeySetRequest, keys.GetKeySet)
        unary(_KEY_SERVICE, keys_pb.ListSigningKeysRequest, keys.ListSigningKeys)
        unary(_KEY_SERVICE, keys_pb.PrepareSigningKeyRequest, keys.PrepareSigningKey)
        unary(_KEY_SERVICE, keys_pb.ActivateSigningKeyRequest, keys.ActivateSigningKey)
        unary(_KEY_SERVICE, keys_pb.RetireSigningKeyRequest, keys.RetireSigningKey)
        unary(_KEY_SERVICE, keys_pb.RevokeSigningKeyRequest, keys.RevokeSigningKey)
        stream = f"/{_TOKEN_SERVICE}/StreamRevocations"
        methods[stream] = edge.stream(
            stream, Permission.SUBSCRIBE, pb.StreamRevocationsRequest, self.feed.stream
        )
        return methods

    async def run(self) -> None:
        """Enforce the time limits of calls and streams, and keep this node's health up to date, until
        cancelled. The owner of the server runs it.
        """
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            self._deadlines.sweep()
            self.feed.sweep()
            self._watch_once()

    def _watch_once(self) -> None:
        """Set the health of TokenService, and of the server as a whole: whether this node knows enough to
        answer.
        """
        fresh = True
        try:
            self._tailer.require_fresh()
        except ReplicaStaleError:
            fresh = False
        for service in ("", _TOKEN_SERVICE):
            self._plain.health.set(service, _SERVING if fresh else _NOT_SERVING)
        for service in (_SESSION_SERVICE, _KEY_SERVICE):
            self._plain.health.set(service, _SERVING)

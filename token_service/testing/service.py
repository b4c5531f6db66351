"""A whole token service in the process of a test: the real one, on SQLite in a temporary directory."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc

from token_service.client.config import ServiceIssuer
from token_service.listening import NodeAddresses
from token_service.testing.validators import FRESHNESS, ValidatorsMixin
from token_service.v1.key_service_pb2_grpc import KeyServiceStub
from token_service.v1.session_service_pb2_grpc import SessionServiceStub
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

_START_TIMEOUT: Final = 60.0

try:
    from token_service.app.node import node
    from token_service.config import load_settings
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"TokenServiceInProcess needs the extra [server] ({_missing.name} is missing): pip install 'grpc-token-service[server]'",
        name=_missing.name,
    ) from None


class TokenServiceInProcess(ValidatorsMixin):
    """A node of the token service that runs in a thread of this process, with its own event loop.

    It is the real service with the embedded default: SQLite in a temporary directory, no Redis, no TLS, and callers on
    loopback that may do everything. It starts in about a second. Use it in a `with` block, also from asynchronous code.

        with TokenServiceInProcess() as service:
            issued = service.tokens.IssueToken(IssueTokenRequest(subject="alice", client_id="web", audience=["api"]))
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        """Configure the service. `settings` are by name in lower case, e.g. `{"policy_file": "policy.toml"}`."""
        self._settings = dict(settings or {})
        self._started: Future[NodeAddresses] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the service, and return when it answers. Raises `ConfigurationError` and the errors of the start."""
        self._directory = tempfile.TemporaryDirectory(prefix="token-service-")
        self._thread = threading.Thread(
            target=self._run, args=(Path(self._directory.name),), name="token-service", daemon=True
        )
        self._thread.start()
        try:
            self._started.result(_START_TIMEOUT)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the service, and delete its data."""
        if self._channel is not None:
            self._channel.close()
        if (
            self._loop is not None
            and self._stop is not None
            and self._thread is not None
            and self._thread.is_alive()
        ):
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        if self._directory is not None:
            self._directory.cleanup()

    @property
    def target(self) -> str:
        """`host:port` of gRPC."""
        return self._started.result(0).grpc

    @property
    def url(self) -> str:
        """The URL of the HTTP endpoints, which is the issuer (`iss`) of its tokens, too."""
        return f"http://{self._started.result(0).http}"

    @property
    def channel(self) -> grpc.Channel:
        """A channel for generated stubs. It is closed with the service."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.target)
        return self._channel

    @property
    def tokens(self) -> TokenServiceStub:
        """A stub of TokenService."""
        return TokenServiceStub(self.channel)

    @property
    def sessions(self) -> SessionServiceStub:
        """A stub of SessionService."""
        return SessionServiceStub(self.channel)

    @property
    def keys(self) -> KeyServiceStub:
        """A stub of KeyService."""
        return KeyServiceStub(self.channel)

    def service_issuer(self, **changes: Any) -> ServiceIssuer:
        """Return the configuration of a validator for this service. Keywords replace fields of `ServiceIssuer`."""
        fields: dict[str, Any] = {
            "issuer": self.url,
            "target": self.target,
            "freshness": FRESHNESS,
        }
        return ServiceIssuer(**(fields | changes))

    def _run(self, directory: Path) -> None:
        try:
            asyncio.run(self._serve(directory))
        except BaseException as error:  # `start` raises it in its thread
            if self._started.done():
                raise
            if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self._started.set_exception(error)

    async def _serve(self, directory: Path) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = load_settings(
            {
                "data_dir": str(directory),
                "grpc_address": "127.0.0.1:0",
                "http_address": "127.0.0.1:0",
                **self._settings,
            },
            {},
        )
        async with node(settings, {}) as addresses:
            self._started.set_result(addresses)
            await self._stop.wait()

"""The HTTP server, in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import uvicorn

from token_service.errors import ConfigurationError
from token_service.listening import bind_all
from token_service.web.connections import KEEP_ALIVE, Connection, ConnectionLimits, Connections
from token_service.web.tls import TlsContext, TlsListener

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_MAX_HEADER_BYTES: Final = 16 * 1024


class HttpServer:
    """An HTTP server on one address, as an async context manager.

    Leaving the context finishes running requests and closes the port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: ASGIApp,
        *,
        reuse_port: bool = False,
        grace: float = 5.0,
        connections: ConnectionLimits | None = None,
        bound: Sequence[socket.socket] | None = None,
        tls: TlsContext | None = None,
        setting: str = "HTTP_ADDRESS",
    ) -> None:
        """Create a server, without I/O. `port` 0 takes a free port.

        `reuse_port` lets other processes listen on the same port. `grace` is how many seconds running requests may take
        at the end. `bound` are sockets from `bind`. `tls` is loaded; None serves plain HTTP. Errors name `setting`.
        """
        self._host = host
        self._port = port
        self._reuse_port = reuse_port
        self._grace = grace
        self._app = app
        self.connections = Connections(connections or ConnectionLimits())
        self._bound = bound
        self._tls = tls
        self._setting = setting
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Bind and serve. Raises `ConfigurationError` if the address can't be bound."""
        listeners = self._bound or bind(
            self._host, self._port, reuse_port=self._reuse_port, setting=self._setting
        )
        self._port = listeners[0].getsockname()[1]
        try:
            for listener in listeners:
                listener.listen(128)
        except OSError as error:
            raise _refusal(self._host, self._port, error, self._setting) from None
        self._server = _Server(_config(self._app, self.connections, self._grace), self.connections, self._tls)
        self._task = asyncio.create_task(self._server.serve(sockets=[*listeners]), name="http")
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            for listener in listeners:
                listener.close()
            self._task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    @property
    def address(self) -> str:
        """The `host:port`, with the real port after it is bound."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"


def bind(
    host: str, port: int, *, reuse_port: bool = False, setting: str = "HTTP_ADDRESS"
) -> list[socket.socket]:
    """Bind every address of the host. Clients can connect only after a server listens on the returned sockets.

    Raises `ConfigurationError`.
    """
    try:
        return bind_all(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise _refusal(host, port, error, setting) from None


def _refusal(host: str, port: int, error: OSError, setting: str) -> ConfigurationError:
    return ConfigurationError(
        f"TOKEN_SERVICE_{setting}: can't listen on {host}:{port} ({error.strerror}); choose another with "
        f"--{setting.lower().replace('_', '-')} HOST:PORT"
    )


def _config(app: ASGIApp, connections: Connections, grace: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Connection, connections),  # type: ignore[arg-type]  # called like the class
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(grace)),
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to the process and announces that it listens."""

    def __init__(self, config: uvicorn.Config, connections: Connections, tls: TlsContext | None) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._connections = connections
        self._tls = tls
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            options = {
                "config": self.config,
                "server_state": self.server_state,
                "app_state": self.lifespan.state,
            }
            for each in sockets or ():
                listener = TlsListener(each, self._tls, self._connections, **options)
                self._accepting.append(asyncio.create_task(listener.run(), name="http-accept"))
        self.has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(
            *self._accepting, return_exceptions=True
        )  # they use the sockets that are closed now
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""Serves a gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import prometheus_client
import uvicorn

from token_service.errors import ConfigurationError
from token_service.gateway.ext_authz import handler
from token_service.gateway.gateway import Gateway
from token_service.gateway.http import HttpApp
from token_service.gateway.loading import Loaded
from token_service.gateway.metrics import Metrics
from token_service.listening import bind_all

logger = logging.getLogger(__name__)

_UNIX: Final = "unix:"
_KEEP_ALIVE: Final = 75


class Addresses(NamedTuple):
    """The bound addresses; empty: none."""

    grpc: str
    http: str


async def serve(path: Path, loaded: Loaded, ready: Callable[[Addresses], None]) -> None:
    """Run a gateway. `ready` is called once the addresses are bound. Raises `ConfigurationError`."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series
    metrics = Metrics()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _heed, stop)
    settings = loaded.settings
    async with Gateway(path, loaded, metrics) as gateway:
        watching = asyncio.create_task(gateway.watch(), name="watch-configuration")
        loop.add_signal_handler(signal.SIGHUP, gateway.ask_reload)
        try:
            async with (
                _grpc(settings.listen.grpc, gateway, metrics) as grpc_address,
                _http(settings.listen.http, gateway, metrics) as http_address,
            ):
                ready(Addresses(grpc_address, http_address))
                await stop.wait()
                logger.info("stopping")
                gateway.stopping = True
                await asyncio.sleep(gateway.loaded.settings.limits.drain)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


def _heed(stop: asyncio.Event) -> None:
    if stop.is_set():
        logger.error("received a second signal: ending at once, without finishing running checks")
        os._exit(1)
    stop.set()


@asynccontextmanager
async def _grpc(address: str, gateway: Gateway, metrics: Metrics) -> AsyncIterator[str]:
    if not address:
        yield ""
        return
    limits = gateway.loaded.settings.limits
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.request_bytes),
            ("grpc.max_metadata_size", limits.request_bytes),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers((handler(lambda: gateway.ext_authz, metrics),))
    try:
        if address.startswith(_UNIX):
            with _permissions(gateway):
                server.add_insecure_port(address)
            bound = address
        else:
            host, port = _host_port("listen.grpc", address)
            bound = _joined(host, server.add_insecure_port(_joined(host, port)))
    except RuntimeError:
        raise ConfigurationError(f"listen.grpc: can't listen on {address}; choose another address") from None
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(gateway.loaded.settings.limits.shutdown_grace)


@asynccontextmanager
async def _http(address: str, gateway: Gateway, metrics: Metrics) -> AsyncIterator[str]:
    if not address:
        yield ""
        return
    limits = gateway.loaded.settings.limits
    sockets, bound = _bind(address, gateway)
    server = _Server(
        uvicorn.Config(
            HttpApp(gateway, metrics, max_header_bytes=limits.request_bytes),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.request_bytes,
            timeout_keep_alive=_KEEP_ALIVE,
        )
    )
    for each in sockets:
        each.listen(1024)
    task = asyncio.create_task(server.serve(sockets=sockets), name="http")
    try:
        yield bound
    finally:
        server.config.timeout_graceful_shutdown = round(gateway.loaded.settings.limits.shutdown_grace)
        server.should_exit = True
        await task
        for each in sockets:
            each.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(address: str, gateway: Gateway) -> tuple[list[socket.socket], str]:
    try:
        if address.startswith(_UNIX):
            path = Path(address.removeprefix(_UNIX))
            with contextlib.suppress(FileNotFoundError):
                if path.is_socket():
                    path.unlink()  # of a process that ended without removing it
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with _permissions(gateway):
                listener.bind(str(path))
            return [listener], address
        host, port = _host_port("listen.http", address)
        sockets = bind_all(host, port, reuse_port=False)
        return sockets, _joined(host, sockets[0].getsockname()[1])
    except OSError as error:
        raise ConfigurationError(f"listen.http: can't listen on {address} ({error.strerror})") from None


@contextlib.contextmanager
def _permissions(gateway: Gateway) -> Iterator[None]:
    """Create sockets with the configured permissions."""
    before = os.umask(0o777 & ~int(gateway.loaded.settings.listen.socket_mode, 8))
    try:
        yield
    finally:
        os.umask(before)


def _host_port(name: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigurationError(f"{name} is {address!r}; write HOST:PORT or unix:PATH")
    return host, int(port)


def _joined(host: str, port: int | Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

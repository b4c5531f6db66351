"""TLS in front of gRPC, for a token service that is known by its SPIFFE ID.

gRPC for Python compares the name in a server's certificate with DNS names only, and shows the certificate to no code.
Therefore this relay makes the TLS connection with Python's own `ssl`, checks the certificate, and only then passes the
bytes of the gRPC connection through it. The check and the calls share one connection.

gRPC reaches the relay through a socket in a directory that only this user can enter.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from token_service.client._internal.credentials import TlsCredentials
from token_service.client._internal.pins import require_spiffe_id
from token_service.errors import ConfigurationError

_HANDSHAKE: Final = 10.0
"""Seconds in which a connection must be made and checked."""
_END: Final = 1.0
"""Seconds for which the last bytes of a connection are kept."""
_CHUNK: Final = 256 * 1024


class TlsRelay:
    """Relay to one target, in a thread of its own. `credentials` may be replaced while it runs."""

    def __init__(self, target: str, spiffe_id: str, refused: Callable[[str], None]) -> None:
        """Configure the relay.

        `refused` is called with the reason for each connection that failed, and with "" for each one that was made; in
        the relay's thread. Raises `ConfigurationError` for a target with another scheme than `dns` or `ipv4`.
        """
        self._addresses = _addresses(target)
        self._spiffe_id = spiffe_id
        self._refused = refused
        self._context: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._directory = ""
        self._thread = threading.Thread(target=self._run, name="tls-relay", daemon=True)

    @property
    def target(self) -> str:
        """GRPC target of the relay."""
        return f"unix:{self._directory}/grpc"

    @property
    def authority(self) -> str:
        """`:authority` of the calls."""
        host, port = self._addresses[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def use(self, credentials: TlsCredentials) -> None:
        """Use credentials for the connections from now on. May block briefly. Raises `ConfigurationError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the authorities of the system
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False  # the SPIFFE ID is the name: see `_connect`
        context.verify_flags |= (
            ssl.VERIFY_X509_PARTIAL_CHAIN
        )  # an intermediate authority may be pinned, as in gRPC
        context.set_alpn_protocols(["h2"])
        try:
            assert credentials.roots is not None
            context.load_verify_locations(cadata=credentials.roots.decode("ascii"))
            if credentials.certificate_chain is not None and credentials.private_key is not None:
                _load_client_certificate(context, credentials.certificate_chain, credentials.private_key)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the TLS credentials can't be used: {error}") from error
        self._context = context

    def start(self) -> None:
        """Start to listen. Raises `ConfigurationError` if the socket can't be made."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise ConfigurationError(
                f"the socket of the TLS relay can't be made: {self._failure}"
            ) from self._failure

    def close(self) -> None:
        """End all connections, and wait until the thread has ended."""
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._directory = tempfile.mkdtemp(prefix="token-service-")  # of mode 0700
            self._loop.run_until_complete(self._listen())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()
            self._loop.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _listen(self) -> None:
        server = await asyncio.start_unix_server(self._accept, f"{self._directory}/grpc")
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            # A connection that was just accepted calls `_accept` some steps of the loop later. If the server is closed
            # before, asyncio drops the connection and leaves it open.
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
            await _pass_steps()
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await _pass_steps()  # the transports end

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE):
                far_reader, far_writer = await self._connect()
        except (OSError, ValueError) as error:  # a TimeoutError too
            self._refused(str(error) or "the TLS connection was not made in time")
            await _end(writer)
            return
        except BaseException:
            writer.transport.abort()
            raise
        self._refused("")
        ends = [
            asyncio.create_task(_copy(reader, far_writer)),
            asyncio.create_task(_copy(far_reader, writer)),
        ]
        try:
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.wait(ends)
                await asyncio.gather(_end(writer), _end(far_writer))
        finally:  # for a relay that is closed at one of the steps above
            writer.transport.abort()
            far_writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that accepts, and check the certificate before any byte of gRPC is sent.

        Raises `OSError`, and `ValueError` for a server with another identity.
        """
        failure: OSError | None = None
        for host, port in self._addresses:
            try:
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=self._context, server_hostname=host, limit=_CHUNK
                )
            except OSError as error:
                failure = error
                continue
            try:
                tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
                certificate = tls.getpeercert(binary_form=True)
                if certificate is None or tls.selected_alpn_protocol() != "h2":
                    raise ValueError("the service at the target does not offer HTTP/2")
                require_spiffe_id(certificate, self._spiffe_id)
            except BaseException:
                writer.transport.abort()
                raise
            return reader, writer
        assert failure is not None
        raise failure


async def _pass_steps() -> None:
    """Let the loop run the scheduled steps and the steps that these schedule. A relay begins with three."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _end(writer: asyncio.StreamWriter) -> None:
    """Close a connection after its buffered bytes were sent, if the other end reads them soon."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_END):
            await writer.wait_closed()
    writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _load_client_certificate(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Load PEM from memory: `ssl` reads files only."""
    with tempfile.TemporaryDirectory(prefix="token-service-") as directory:  # of mode 0700
        path = Path(directory) / "client.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.rstrip(b"\n") + b"\n" + chain)
        context.load_cert_chain(path)


def _addresses(target: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a gRPC target."""
    scheme, colon, rest = target.partition(":")
    has_scheme = bool(colon) and scheme in {"dns", "ipv4", "ipv6"}
    listed = rest.rpartition("/")[2].split(",") if has_scheme else [target]
    found: list[tuple[str, int]] = []
    for address in listed:
        host, _, port = address.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ConfigurationError(
                f"with ServiceIssuer.spiffe_id the target must be host:port, dns:///host:port or ipv4: and addresses, "
                f"with ports; it is {target!r}"
            )
        found.append((host.removeprefix("[").removesuffix("]"), int(port)))
    return found

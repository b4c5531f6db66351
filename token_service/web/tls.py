"""TLS on the HTTP port: the context that follows its files, and the handshake of a connection."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from token_service.certificates.server import TlsContent, TlsFiles, TlsSource
from token_service.web.connections import Connection, Connections

_INTERVAL: Final = 1.0
"""Seconds between two looks at the files."""
_SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds that a client may take to answer the end of TLS. Nothing is lost after it: a response has its length."""

logger = logging.getLogger(__name__)


class TlsContext:
    """The TLS context for new connections, which follows its files."""

    def __init__(self, files: TlsFiles) -> None:
        """Create a context without I/O. `load` it before the first connection."""
        self._source = TlsSource(files, lambda content: _context(files, content))
        self._current: ssl.SSLContext | None = None

    @property
    def current(self) -> ssl.SSLContext:
        """The context of the last usable files."""
        assert self._current is not None, "not loaded"
        return self._current

    def load(self) -> None:
        """Load the files. Raises `ConfigurationError` if they are unusable."""
        self._current = self._source.load()

    async def watch(self) -> None:
        """Load changed files, until cancelled. Open connections keep the certificate of their handshake."""
        while True:
            await asyncio.sleep(_INTERVAL)
            changed = await asyncio.to_thread(self._source.changed)
            if changed is not None:
                self._current = changed


def _context(files: TlsFiles, content: TlsContent) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session has the certificate of the client, but not the intermediate authorities that it sent.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # OpenSSL reads the files itself. It would ask the terminal for the passphrase of a key that was replaced now.
        context.load_cert_chain(files.certificate_chain, files.private_key, password="")
        if content.authorities:
            context.load_verify_locations(cadata=b"".join(map(_der, content.authorities)))
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be a root
    except ssl.SSLError as error:
        raise ValueError(f"OpenSSL refuses them: {error.reason or error}") from None
    return context


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


class Handshake(asyncio.Protocol):
    """A connection until its TLS handshake is done. Then a `Connection` takes it over.

    It counts as an idle connection, so the limits of connections hold from the beginning.
    """

    def __init__(
        self,
        among: Connections,
        context: Callable[[], ssl.SSLContext],
        server_state: ServerState,
        **options: Any,
    ) -> None:
        """`server_state` and `options` are those of a protocol of uvicorn."""
        self._among = among
        self._context = context
        self._server_state = server_state
        self._options = options
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    @property
    def idle(self) -> bool:
        """True: no request is running."""
        return True

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Close the connection, because the server stops."""
        self.close()

    def connection_made(self, transport: Any) -> None:
        """Start the handshake."""
        self._transport: asyncio.Transport = transport
        transport.pause_reading()  # TLS reads from the first byte
        client = get_remote_addr(transport)
        self.address = client[0] if client is not None else ""
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # as much of one as the server uses
        if not self._among.add(self):
            self.close()
            return
        self._task = asyncio.get_running_loop().create_task(self._shake(), name="tls-handshake")

    def data_received(self, data: bytes) -> None:
        """Keep data that arrived together with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()

    async def _shake(self) -> None:
        encrypted = None
        try:
            encrypted = await self._encrypted()
        finally:
            self._forget()
            if encrypted is None:
                self.close()
        if encrypted is None:
            return
        connection = Connection(self._among, server_state=self._server_state, **self._options)
        encrypted.set_protocol(connection)
        connection.connection_made(encrypted)
        for data in self._early:
            connection.data_received(data)

    async def _encrypted(self) -> asyncio.Transport | None:
        """Return the transport after the handshake; None if the handshake failed or the connection is closed."""
        if self._transport.is_closing():
            return None
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=self._among.limits.tls_timeout,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            )
        except OSError as error:  # no TLS, no common version, a certificate that does not verify, or too late
            logger.debug("TLS handshake with %s failed: %s", self.address, error)
            return None
        return None if encrypted is None or encrypted.is_closing() else encrypted

    def _forget(self) -> None:
        self._among.discard(self)
        self._server_state.connections.discard(self)

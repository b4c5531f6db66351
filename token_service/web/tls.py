"""TLS on the HTTP port: the context that follows its files, and the handshakes of connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from token_service.certificates.server import TlsContent, TlsFiles, TlsSource
from token_service.web.connections import Connection, Connections
from token_service.web.tls_scope import TlsScope

_INTERVAL: Final = 1.0
"""Seconds between two looks at the files."""
_ACCEPT_PAUSE: Final = 0.5
_SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds that a client may take to answer the end of TLS. Nothing is lost after it: a response has its length."""

logger = logging.getLogger(__name__)


class TlsContext:
    """The TLS context for new connections, which follows its files."""

    def __init__(self, files: TlsFiles) -> None:
        """Create a context without I/O. `load` it before the first connection."""
        self._source = TlsSource(files, lambda content: _context(files, content))
        self._current: ssl.SSLContext | None = None
        self.on_failure: Callable[[str], None] | None = None
        """Is called with the reason of each failed handshake: `certificate`, `protocol`, `timeout` or `disconnected`."""

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
    # A session that is resumed by a ticket has lost the intermediate authorities that the client sent.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
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


class TlsListener:
    """Accepts the connections of one socket, and makes a `Connection` of each one after its TLS handshake.

    The event loop could do both. But it would not count unfinished handshakes as connections, and it would keep the
    context of its start.
    """

    def __init__(
        self, listener: socket.socket, context: TlsContext, among: Connections, **options: Any
    ) -> None:
        """`options` are those of a protocol of uvicorn."""
        self._listener = listener
        self._context = context
        self._among = among
        self._options = options
        self._handshakes: set[Handshake] = set()

    async def run(self) -> None:
        """Accept connections until cancelled. Then close those whose handshake is not done."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        try:
            while True:
                try:
                    accepted, peer = await loop.sock_accept(self._listener)
                except OSError as error:  # the process is out of descriptors
                    logger.error("HTTP can't accept connections: %s", error.strerror)  # noqa: TRY400
                    await asyncio.sleep(_ACCEPT_PAUSE)
                    continue
                handshake = Handshake(accepted, str(peer[0]), self._among)
                if self._among.add(handshake):
                    self._handshakes.add(handshake)
                    handshake.start(self._context, self._options, self._handshakes.discard)
                else:
                    handshake.close()
        finally:
            for handshake in list(self._handshakes):
                handshake.close()


class Handshake:
    """A connection until its TLS handshake is done. It counts as an idle connection."""

    def __init__(self, accepted: socket.socket, address: str, among: Connections) -> None:
        self.address = address
        self._accepted = accepted
        self._among = among
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """True: no request is running."""
        return True

    def close(self) -> None:
        """Close the connection at once."""
        self._among.discard(self)
        if self._task is None:
            self._accepted.close()
        else:
            self._task.cancel()

    def start(
        self, context: TlsContext, options: Mapping[str, Any], done: Callable[[Handshake], None]
    ) -> None:
        """Start the handshake. `done` is called at its end."""
        self._task = asyncio.create_task(self._shake(context, options), name="tls-handshake")

        def ended(task: asyncio.Task[None]) -> None:
            done(self)
            if task.cancelled():
                self._accepted.close()

        self._task.add_done_callback(ended)

    async def _shake(self, context: TlsContext, options: Mapping[str, Any]) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: TlsConnection(self, self._among, **options),
                self._accepted,
                ssl=context.current,
                ssl_handshake_timeout=self._among.limits.tls_timeout,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            )
        except OSError as error:  # no TLS, no common version, a certificate that does not verify, or too late
            logger.debug("TLS handshake with %s failed: %s", self.address, error)
            if context.on_failure is not None:
                context.on_failure(_why(error))
        finally:
            self._among.discard(self)


def _why(error: OSError) -> str:
    # The event loops raise an aborted connection without a number for a handshake that takes too long.
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectionAbortedError) and error.errno is None):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(getattr(error, "reason", "")):
        return "certificate"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return "protocol"
    return "disconnected"


class TlsConnection(Connection):
    """A connection after its TLS handshake. The scopes of its requests have the TLS extension."""

    def __init__(self, handshake: Handshake, among: Connections, **options: Any) -> None:
        super().__init__(among, **options)
        self._handshake = handshake

    def connection_made(self, transport: Any) -> None:
        """Take the place of the handshake."""
        self._among.discard(self._handshake)
        self.app = TlsScope(self.app, transport.get_extra_info("ssl_object"))
        super().connection_made(transport)

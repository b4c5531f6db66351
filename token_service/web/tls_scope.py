"""The TLS extension of ASGI: what a connection knows about TLS, in the scope of each request."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_DER: Final = 2
"""`_ssl.ENCODING_DER`."""
_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TlsScope:
    """Adds `extensions["tls"]` of one connection to the scopes of an application."""

    def __init__(self, app: ASGIApp, connection: ssl.SSLObject) -> None:
        self._app = app
        self._extension = extension_of(connection)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        scope.setdefault("extensions", {})["tls"] = self._extension
        await self._app(scope, receive, send)


def extension_of(connection: ssl.SSLObject) -> dict[str, Any]:
    """Return the extension of a connection after its handshake. What the ssl module does not tell is None."""
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in _chain(connection)],
        "client_cert_name": None,
        "client_cert_error": None,  # the handshake fails
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": None,
    }


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    """Return the certificate of the client and the others that it sent, in DER."""
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return []
    public: Any = getattr(connection, "get_unverified_chain", None)  # since Python 3.13
    if public is not None:
        return list(public()) or [leaf]
    inner: Any = connection._sslobj  # type: ignore[attr-defined]  # noqa: SLF001  # the same method before 3.13
    return [certificate.public_bytes(_DER) for certificate in inner.get_unverified_chain() or ()] or [leaf]

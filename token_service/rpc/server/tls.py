"""TLS of the gRPC server, with certificates that may be replaced while it runs."""

from __future__ import annotations

import grpc

from token_service.certificates.server import TlsContent, TlsFiles, TlsSource


class ReloadingCredentials:
    """Server credentials that check their files whenever a client connects, and reload changed files."""

    def __init__(self, files: TlsFiles) -> None:
        self._source = TlsSource(files, _configuration)
        self._requires_certificates = files.client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """Create credentials for TLS 1.2 or later. Raises `ConfigurationError` if the files are unusable."""
        return grpc.dynamic_ssl_server_credentials(
            self.load(),
            self._source.changed,  # type: ignore[arg-type]  # None means no change (gRPC documentation)
            require_client_authentication=self._requires_certificates,
        )  # gRPC calls `changed` on its own threads, before each handshake

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Load the files. Raises `ConfigurationError` if they are unusable."""
        return self._source.load()


def _configuration(content: TlsContent) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(content.key, content.chain)], content.authorities_pem)

"""An authority for Redis, and the files of a server and of its client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Authority, Certificate
from tests.support.redis import RedisTlsFiles


@dataclass(frozen=True)
class RedisFiles:
    """The files of the authority, of the server and of the client, and of another authority."""

    directory: Path

    def write(self) -> RedisFiles:
        """Write all files with new keys, and return this object."""
        authority = Authority("Redis")
        self._write("ca.pem", authority.certificate)
        self._write("other-ca.pem", Authority("Other").certificate)
        self._certificate("server", authority.server())
        self._certificate("elsewhere", authority.server("elsewhere.example.org"))
        self._certificate("client", authority.issue())
        return self

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.directory / name

    @property
    def server(self) -> RedisTlsFiles:
        """The files of a server at a loopback address."""
        return self._server("server")

    @property
    def elsewhere(self) -> RedisTlsFiles:
        """The files of a server with another name."""
        return self._server("elsewhere")

    def environment(self) -> dict[str, str]:
        """Return the settings of a node for these files."""
        return {
            "TOKEN_SERVICE_REDIS_TLS_CA_FILE": str(self.path("ca.pem")),
            "TOKEN_SERVICE_REDIS_TLS_CERT_FILE": str(self.path("client.pem")),
            "TOKEN_SERVICE_REDIS_TLS_KEY_FILE": str(self.path("client.key")),
        }

    def _server(self, name: str) -> RedisTlsFiles:
        return RedisTlsFiles(self.path("ca.pem"), self.path(f"{name}.pem"), self.path(f"{name}.key"))

    def _certificate(self, name: str, certificate: Certificate) -> None:
        self._write(f"{name}.pem", certificate.certificate)
        self._write(f"{name}.key", certificate.key)

    def _write(self, name: str, content: bytes) -> None:
        path = self.path(name)
        path.touch(mode=0o600)
        path.write_bytes(content)

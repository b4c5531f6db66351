"""The certificates of the nodes, replaceable while the nodes run."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.support.certificates import Authority

_DAY = 86_400.0


class Certificates:
    """An authority, and a certificate and key file for each node."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._authority = Authority(lifetime=2 * _DAY)
        (root / "authority.pem").write_bytes(self._authority.certificate)

    def files(self, node: int) -> tuple[Path, Path]:
        """Return certificate and key of a node; create missing files."""
        certificate, key = self._root / f"node{node}.pem", self._root / f"node{node}.key"
        if not certificate.exists():
            self.replace(node)
        return certificate, key

    def replace(self, node: int) -> None:
        """Give a node a new certificate with a new key."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        # A clock that is off by an hour stays within this validity.
        made = self._authority.issue(names, lifetime=_DAY, begins=-_DAY)
        for name, content in ((f"node{node}.key", made.key), (f"node{node}.pem", made.certificate)):
            draft = self._root / f"{name}.new"
            draft.write_bytes(content)
            draft.chmod(0o600)
            draft.replace(self._root / name)

    def is_served(self, node: int, address: str) -> bool:
        """Return whether a node presents its current certificate to a new connection."""
        host, _, port = address.rpartition(":")
        served = ssl.get_server_certificate((host, int(port)), timeout=5)
        current = self.files(node)[0].read_bytes()
        return x509.load_pem_x509_certificate(served.encode()) == x509.load_pem_x509_certificate(current)

"""The names of the certificate of a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import Authority
from token_service.certificates.server import server_names


def test_names_are_those_of_the_certificate(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    issued = Authority().issue([x509.DNSName("Tokens.internal"), x509.DNSName("*.internal")])
    path.write_bytes(issued.certificate)
    assert server_names(path) == {"tokens.internal"}


@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_unusable_file_has_no_names(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_bytes(content)
    assert server_names(path) == frozenset()

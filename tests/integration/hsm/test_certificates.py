"""An offline root, an online intermediate, and a key that exists only in the module."""

from __future__ import annotations

import base64
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from token_service.certificates.signing_keys import check_chain, make_csr
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.tokens.algorithms import Algorithm

EXTENSIONS = """
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[signing]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authorities:
    """The two authorities of an operator, run with `openssl` alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "extensions").write_text(EXTENSIONS)
        for name in ("root", "intermediate"):
            curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes")
            self.openssl(
                "req", "-new", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
            )
        own = ("-signkey", "root.key", "-days", "3650")
        self.openssl("x509", "-req", "-in", "root.csr", "-out", "root.pem", *own, *self._says("root"))
        self.sign("intermediate", by="root")

    def sign(self, name: str, *, by: str) -> None:
        issuer = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "365")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *issuer, *self._says(name))

    def openssl(self, *arguments: str) -> str:
        program = shutil.which("openssl")
        assert program, "openssl is needed for these tests; install it, for example: apt-get install openssl"
        done = subprocess.run(
            [program, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    @staticmethod
    def _says(name: str) -> tuple[str, ...]:
        return ("-extfile", "extensions", "-extensions", name)


@pytest.mark.parametrize("algorithm", [Algorithm.RS256, Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA])
async def test_a_certificate_from_the_request_to_x5c(
    keys: Pkcs11Keys, algorithm: Algorithm, tmp_path: Path
) -> None:
    authorities = Authorities(tmp_path)
    new = await keys.generate(algorithm)
    signer = keys.open_signer(new.key_id, algorithm)
    (tmp_path / "signing.csr").write_text(
        await make_csr(new.public_key, signer.sign, "CN=tokens.example.com,O=Example", made_for=algorithm)
    )
    assert "verify OK" in authorities.openssl("req", "-verify", "-noout", "-in", "signing.csr")
    authorities.sign("signing", by="intermediate")
    pem = "".join((tmp_path / f"{name}.pem").read_text() for name in ("signing", "intermediate", "root"))
    chain = check_chain(pem, new.public_key, datetime.now(UTC).timestamp())
    x5c = [base64.b64encode(der).decode() for der in chain]  # RFC 7517, section 4.7
    for number, text in enumerate(x5c):
        (tmp_path / f"{number}.der").write_bytes(base64.b64decode(text))
        authorities.openssl("x509", "-inform", "DER", "-in", f"{number}.der", "-out", f"{number}.pem")
    verified = authorities.openssl(
        "verify", "-x509_strict", "-CAfile", "2.pem", "-untrusted", "1.pem", "0.pem"
    )
    assert "0.pem: OK" in verified
    assert (
        x509.load_der_x509_certificate(chain[0]).subject.rfc4514_string() == "CN=tokens.example.com,O=Example"
    )
    other = await keys.generate(algorithm)
    with pytest.raises(ValueError, match="none of the certificates is for this signing key"):
        check_chain(pem, other.public_key, datetime.now(UTC).timestamp())

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from token_service.certificates.signing_keys import check_chain, make_csr
from token_service.signers.local import LocalSigner
from token_service.signers.private_key import generate_private_key, public_key_bytes
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret

NOW = datetime(2026, 7, 1, tzinfo=UTC)
WITH_CERTIFICATES = [Algorithm.RS256, Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA]


def openssl(*arguments: object, text: str = "") -> str:
    program = shutil.which("openssl")
    assert program, "openssl is needed for these tests; install it, for example: apt-get install openssl"
    done = subprocess.run(
        [program, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def key_usage(*allowed: str) -> x509.KeyUsage:
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    return x509.KeyUsage(
        **{name: name in allowed for name in names.split()}, encipher_only=False, decipher_only=False
    )


@dataclass(frozen=True)
class Wish:
    """The wanted content of a certificate."""

    name: str
    ca: bool | None = False
    path_length: int | None = None
    usage: x509.KeyUsage | None = None
    begin: datetime = NOW - timedelta(days=30)
    end: datetime = NOW + timedelta(days=30)
    extra: x509.ExtensionType | None = None
    digest: SHA256 | SHA384 = field(default_factory=SHA256)
    issuer_name: str | None = None


OWN = Wish("tokens", usage=key_usage("digital_signature"))
INTERMEDIATE = Wish("intermediate", ca=True, path_length=0, usage=key_usage("key_cert_sign", "crl_sign"))
ROOT = Wish("root", ca=True, usage=key_usage("key_cert_sign", "crl_sign"))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(wish: Wish, public_key: Any, issuer: Wish, issuer_key: Any) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(wish.name))
        .issuer_name(name(wish.issuer_name or issuer.name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(wish.begin)
        .not_valid_after(wish.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if wish.ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(wish.ca, wish.path_length), critical=True)
    if wish.usage is not None:
        builder = builder.add_extension(wish.usage, critical=True)
    if wish.extra is not None:
        builder = builder.add_extension(wish.extra, critical=True)
    digest = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else wish.digest
    return builder.sign(issuer_key, digest)


class Chain:
    """A chain with the wanted content: root, intermediate and the certificate of the key."""

    def __init__(
        self,
        own: Wish = OWN,
        intermediate: Wish = INTERMEDIATE,
        root: Wish = ROOT,
        *,
        algorithm: Algorithm = Algorithm.ES256,
        make_issuer_key: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP256R1()),
    ) -> None:
        self.key = new_key(algorithm)
        root_key, intermediate_key = make_issuer_key(), make_issuer_key()
        self.root = certificate(root, root_key.public_key(), root, root_key)
        self.intermediate = certificate(intermediate, intermediate_key.public_key(), root, root_key)
        self.own = certificate(own, self.key.public_key(), intermediate, intermediate_key)
        self.public_key = public_key_bytes(self.key)

    def check(self, *certificates: x509.Certificate, now: datetime = NOW) -> tuple[bytes, ...]:
        chosen = certificates or (self.own, self.intermediate, self.root)
        return check_chain(pem(*chosen), self.public_key, now.timestamp())


def chain_with(changed: dict[str, Any]) -> Chain:
    """Return a chain with other wishes for some of its levels."""
    return Chain(**changed)


def new_key(
    algorithm: Algorithm,
) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    key = generate_private_key(algorithm)
    assert not isinstance(key, Secret)
    return key


def pem(*certificates: x509.Certificate) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)


# --- Requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", WITH_CERTIFICATES)
async def test_openssl_verifies_the_certificate_request(algorithm: Algorithm) -> None:
    key = new_key(algorithm)
    text = await make_csr(
        public_key_bytes(key),
        LocalSigner(key, made_for=algorithm).sign,
        "CN=tokens.example.com,O=Ünïted\\, Inc.,C=DE",
        made_for=algorithm,
    )
    request = x509.load_pem_x509_csr(text.encode())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "Ünïted, Inc."
    usage = request.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value == key_usage("digital_signature")
    shown = openssl("req", "-verify", "-noout", "-text", text=text)
    assert "verify OK" in shown
    assert "Digital Signature" in shown


async def test_request_for_ps256_names_the_parameters_of_the_library() -> None:
    key = new_key(Algorithm.PS256)
    signer = LocalSigner(key, made_for=Algorithm.PS256)
    text = await make_csr(public_key_bytes(key), signer.sign, "CN=x", made_for=Algorithm.PS256)
    ours = x509.load_pem_x509_csr(text.encode())
    assert isinstance(key, rsa.RSAPrivateKey)
    theirs = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("x"))
        .add_extension(key_usage("digital_signature"), critical=True)
        .sign(key, SHA256(), rsa_padding=PSS(MGF1(SHA256()), 32))
    )
    assert ours.tbs_certrequest_bytes == theirs.tbs_certrequest_bytes
    assert isinstance(ours.signature_algorithm_parameters, PSS)
    head = -len(ours.signature)  # the signature is the end of the request, and has a random part
    der = ours.public_bytes(Encoding.DER), theirs.public_bytes(Encoding.DER)
    assert der[0][:head] == der[1][:head]


async def test_request_equals_the_request_of_the_library() -> None:
    key = new_key(Algorithm.RS256)
    text = await make_csr(public_key_bytes(key), LocalSigner(key).sign, "CN=" + "x" * 60)
    theirs = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("x" * 60))
        .add_extension(key_usage("digital_signature"), critical=True)
        .sign(key, SHA256())
    )
    assert text == theirs.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("subject", ["", "tokens", "CN", "CN=a,,O=b", "XX=unknown"])
async def test_invalid_subject_is_refused(subject: str) -> None:
    key = generate_private_key(Algorithm.ES256)
    with pytest.raises(ValueError, match="allowed: CN=") as caught:
        await make_csr(public_key_bytes(key), LocalSigner(key).sign, subject)
    assert type(caught.value) is ValueError


async def test_signature_of_another_key_and_hs256_key_are_refused() -> None:
    key, other = generate_private_key(Algorithm.ES256), generate_private_key(Algorithm.ES256)
    with pytest.raises(ValueError, match="not that of the key"):
        await make_csr(public_key_bytes(key), LocalSigner(other).sign, "CN=x")
    secret = generate_private_key(Algorithm.HS256)
    with pytest.raises(ValueError, match="HS256 key has no certificates"):
        await make_csr(public_key_bytes(secret), LocalSigner(secret).sign, "CN=x")


# --- Chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", WITH_CERTIFICATES)
@pytest.mark.parametrize(
    "make_issuer_key",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_openssl_accepts_a_chain_that_passes(
    algorithm: Algorithm, make_issuer_key: Callable[[], Any], tmp_path: Path
) -> None:
    chain = Chain(algorithm=algorithm, make_issuer_key=make_issuer_key)
    ders = chain.check()
    assert ders == tuple(
        each.public_bytes(Encoding.DER) for each in (chain.own, chain.intermediate, chain.root)
    )
    files = []
    for number, der in enumerate(ders):
        files.append(tmp_path / f"{number}.pem")
        files[-1].write_text(pem(x509.load_der_x509_certificate(der)))
    shown = openssl(
        "verify",
        "-x509_strict",
        "-attime",
        int(NOW.timestamp()),
        "-CAfile",
        files[2],
        "-untrusted",
        files[1],
        files[0],
    )
    assert "OK" in shown


def test_chain_may_end_before_the_root() -> None:
    chain = Chain()
    assert len(chain.check(chain.own, chain.intermediate)) == 2
    assert len(chain.check(chain.own)) == 1
    alone = Chain(intermediate=replace(OWN, name="tokens"))
    own = certificate(OWN, alone.key.public_key(), OWN, alone.key)
    assert len(check_chain(pem(own).encode(), alone.public_key, NOW.timestamp())) == 1


def test_chain_in_wrong_order_is_refused() -> None:
    chain = Chain()
    with pytest.raises(ValueError, match="must come first; it is number 3"):
        chain.check(chain.root, chain.intermediate, chain.own)
    with pytest.raises(
        ValueError,
        match=r"certificate 1 .* was issued by 'CN=intermediate', but the next one is that of 'CN=root'",
    ):
        chain.check(chain.own, chain.root)
    with pytest.raises(ValueError, match=r"certificate 3 .* was issued by 'CN=root', but"):
        chain.check(chain.own, chain.intermediate, chain.root, chain.intermediate)
    with pytest.raises(ValueError, match=r"but the next one is that of 'CN=tokens'"):
        chain.check(chain.own, chain.own)


def test_certificate_of_another_key_is_refused() -> None:
    chain, other = Chain(), Chain()
    with pytest.raises(ValueError, match="none of the certificates is for this signing key"):
        chain.check(other.own, other.intermediate)
    with pytest.raises(ValueError, match=r"certificate 1 .* is not signed by the next one"):
        chain.check(chain.own, other.intermediate, other.root)


def test_damaged_signature_is_refused() -> None:
    chain = Chain(make_issuer_key=ed25519.Ed25519PrivateKey.generate)
    der = bytearray(chain.own.public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(ValueError, match=r"certificate 1 .* is not signed by the next one"):
        chain.check(x509.load_der_x509_certificate(bytes(der)), chain.intermediate)


@pytest.mark.parametrize("level", ["own", "intermediate", "root"])
def test_expired_or_future_certificate_is_refused(level: str) -> None:
    wish = {"own": OWN, "intermediate": INTERMEDIATE, "root": ROOT}[level]
    day = timedelta(days=1)
    for changed, text in (
        (replace(wish, end=NOW - day), "expired at 2026-06-30"),
        (replace(wish, begin=NOW + day), "not valid before 2026-07-02"),
    ):
        with pytest.raises(ValueError, match=text):
            chain_with({level: changed}).check()
    chain = chain_with({level: replace(wish, begin=NOW, end=NOW + day)})
    assert chain.check(now=NOW)
    assert chain.check(now=NOW + day)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"own": replace(OWN, usage=None)}, "certificate 1 .* needed: keyUsage digitalSignature"),
        (
            {"own": replace(OWN, usage=key_usage("key_agreement"))},
            "certificate 1 .* needed: keyUsage digitalSignature",
        ),
        ({"own": replace(OWN, ca=True)}, "certificate 1 .* is an authority certificate"),
        ({"own": replace(OWN, extra=UNKNOWN)}, "certificate 1 .* critical extension 1.2.3.4"),
        ({"intermediate": replace(INTERMEDIATE, ca=False, path_length=None)}, "certificate 2 .* CA:TRUE"),
        ({"intermediate": replace(INTERMEDIATE, ca=None)}, "certificate 2 .* CA:TRUE"),
        (
            {"intermediate": replace(INTERMEDIATE, usage=key_usage("digital_signature"))},
            "certificate 2 .* keyCertSign",
        ),
        ({"intermediate": replace(INTERMEDIATE, extra=UNKNOWN)}, "certificate 2 .* critical extension"),
        ({"root": replace(ROOT, path_length=0)}, r"certificate 3 .* allows 0 authorities below it, not 1"),
        ({"root": replace(ROOT, usage=key_usage("crl_sign"))}, "certificate 3 .* keyCertSign"),
    ],
)
def test_certificate_with_wrong_usage_or_constraints_is_refused(changed: dict[str, Wish], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        chain_with(changed).check()


def test_authority_without_key_usage_may_sign() -> None:
    assert Chain(
        intermediate=replace(INTERMEDIATE, usage=None), own=replace(OWN, ca=None, digest=SHA384())
    ).check()


def test_weak_signatures_and_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"certificate [23] .* has a key that is too weak"):
        Chain(make_issuer_key=lambda: ec.generate_private_key(ec.SECP224R1())).check()
    monkeypatch.setattr(
        "token_service.certificates.signing_keys._HASHES", {"sha384"}
    )  # SHA-1 signatures can no longer be made
    with pytest.raises(ValueError, match=r"certificate 1 .* is signed with sha256, which is too weak"):
        Chain().check()


def test_unusable_certificate_files_are_refused() -> None:
    chain = Chain()
    key = chain.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    many = pem(chain.own) * 11
    for text, reason in (
        ("", "not certificates in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not certificates in PEM"),
        (pem(chain.own) + key, "private key among the certificates"),
        (many, "11 certificates; allowed: 10"),
        (pem(chain.own) + " " * 70_000, "larger than"),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            check_chain(text, chain.public_key, NOW.timestamp())
        assert key.splitlines()[1] not in str(caught.value)
    with pytest.raises(ValueError, match="HS256 key has no certificates"):
        check_chain(pem(chain.own), b"", NOW.timestamp())

from __future__ import annotations

import pytest
from cryptography import x509

from tests.support.certificates import Authority, Certificate, subject_alt_names
from token_service.certificates import client
from token_service.certificates.client import (
    CertificateError,
    CertificateNames,
    load_chain,
    names_of,
    vouched_until,
)

ROOT = Authority("root")
MIDDLE = Authority("middle", parent=ROOT, lifetime=1800)
DNS, URI = 2, 6


def names(*raw: tuple[int, bytes]) -> CertificateNames:
    return names_of(load_chain(ROOT.issue(raw_names=subject_alt_names(*raw)).certificate)[0])


def end_of(certificate: Certificate, *authorities: Authority) -> float | None:
    return vouched_until(load_chain(certificate.certificate), [authority.x509 for authority in authorities])


def own_end(certificate: bytes) -> float:
    return load_chain(certificate)[0].not_valid_after_utc.timestamp()


def test_names_are_read_by_their_type() -> None:
    assert names((URI, b"spiffe://x.org/a"), (DNS, b"A.b"), (DNS, b"*.c")) == CertificateNames(
        "spiffe://x.org/a", ("a.b",)
    )
    assert names((DNS, b"spiffe://x.org/a")) == CertificateNames(None, ("spiffe://x.org/a",))
    assert names((URI, b"gateway.internal")) == CertificateNames(None, ())
    assert names((URI, b"https://x.org"), (URI, b"urn:x"), (DNS, b"a")) == CertificateNames(None, ("a",))
    assert names_of(load_chain(ROOT.issue().certificate)[0]) == CertificateNames(None, ())


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ([(DNS, b"gateway.example.org\0.lab.test")], "not printable ASCII"),
        ([(URI, b"spiffe://x.org/a\0b")], "not printable ASCII"),
        ([(URI, b"spiffe://x.org/a\n")], "not printable ASCII"),
        ([(URI, b"spiffe://x.org/a"), (URI, b"spiffe://x.org/b")], "has one URI"),
        ([(URI, b"spiffe://x.org/a"), (URI, b"https://x.org")], "has one URI"),
        ([(URI, b" SPIFFE://x.org/a"), (URI, b"https://x.org")], "has one URI"),
        ([(DNS, b"b\xc3\xbccher.example")], "not printable ASCII"),
        ([(DNS, b"a%d.example" % number) for number in range(65)], "more than 64 names"),
    ],
    ids=str,
)  # fmt: skip
def test_ambiguous_names_are_refused(raw: list[tuple[int, bytes]], why: str) -> None:
    with pytest.raises(CertificateError) as caught:
        names(*raw)
    assert why in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"\x30\x05", b"\x04\x00"])
def test_malformed_name_extension_is_refused(raw: bytes) -> None:
    with pytest.raises(CertificateError):
        names_of(load_chain(ROOT.issue(raw_names=raw).certificate)[0])


@pytest.mark.parametrize(
    "pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_malformed_pem_is_refused(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        load_chain(pem)


def test_chain_with_too_many_certificates_is_refused() -> None:
    with pytest.raises(CertificateError):
        load_chain(ROOT.certificate * 9)


def test_earliest_expiry_on_the_path_counts() -> None:
    for issuer in (ROOT, MIDDLE):
        short = issuer.issue(lifetime=600)
        assert end_of(short, ROOT) == own_end(short.certificate)
    assert end_of(MIDDLE.issue(lifetime=7200), ROOT) == own_end(MIDDLE.certificate)
    assert end_of(ROOT.issue(lifetime=7200), ROOT) == own_end(ROOT.certificate)
    # An intermediate authority may be a trusted authority too.
    assert end_of(MIDDLE.issue(lifetime=7200), MIDDLE) == own_end(MIDDLE.certificate)


def test_latest_expiry_of_several_paths_counts() -> None:
    # The same authority with a renewed certificate, and another authority with the same name.
    renewed = ROOT.renewed(lifetime=5400)
    assert end_of(ROOT.issue(lifetime=7200), Authority("root"), ROOT, renewed) == own_end(renewed.certificate)


def test_unknown_authority_does_not_vouch() -> None:
    stranger, namesake = Authority("stranger"), Authority("root")
    assert end_of(ROOT.issue(), stranger) is None
    assert end_of(ROOT.issue(), namesake) is None
    assert end_of(MIDDLE.issue(), stranger) is None
    assert end_of(ROOT.issue()) is None


def test_certificate_that_is_no_authority_does_not_vouch() -> None:
    leaf = ROOT.issue([x509.DNSName("a")])
    forger = Authority("test", parent=ROOT)  # it has the name of the leaf and signs in its place
    signed = forger.issue()
    chain = load_chain(
        signed.certificate.split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
    )
    assert vouched_until([*chain, *load_chain(leaf.certificate)], [ROOT.x509]) is None


def test_search_ends_for_certificates_that_sign_each_other() -> None:
    one, other = Authority("one"), Authority("one")
    chain = load_chain(one.issue().certificate + one.certificate + other.certificate)
    assert vouched_until(chain, [ROOT.x509]) is None


def test_only_vouched_keys_verify_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    # Six certificates with one name and key sign each other in any order. A seventh has the name and key of the authority.
    peer = Authority("peer", lifetime=600)
    own = b"".join(peer.renewed(lifetime=600 + number).certificate for number in range(6))
    posing = ROOT.signed_by(peer).certificate
    chain = load_chain(ROOT.issue().certificate + posing + own)
    issuers = []
    issued = client._issued

    def counting(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        issuers.append(issuer)
        return issued(certificate, issuer)

    monkeypatch.setattr(client, "_issued", counting)
    assert vouched_until(chain, [ROOT.x509]) == own_end(ROOT.certificate)
    assert set(issuers) == {ROOT.x509}
    assert len(issuers) <= len(chain)


def test_chain_in_any_order_is_accepted() -> None:
    low = Authority("low", parent=MIDDLE, lifetime=7200)
    first, *others = load_chain(low.issue(lifetime=9000).certificate)
    assert vouched_until([first, *others], [ROOT.x509]) == own_end(MIDDLE.certificate)
    assert vouched_until([first, *reversed(others)], [ROOT.x509]) == own_end(MIDDLE.certificate)
    # Two paths: one through a certificate of the authority that ends earlier, one through a certificate that ends later.
    sooner = low.renewed(lifetime=900).certificate
    renewed = load_chain(sooner)
    assert vouched_until([first, *renewed, *others], [ROOT.x509]) == own_end(MIDDLE.certificate)
    assert vouched_until([first, *renewed, *others[1:]], [ROOT.x509]) == own_end(sooner)

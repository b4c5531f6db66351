from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.certificates import Authority, subject_alt_names
from token_service.certificates.verification import CertificateVerifier
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import Client
from token_service.core.policies.rates import Operation, Rate
from token_service.core.policies.rights import Permission
from token_service.errors import CallerUnauthenticatedError, PermissionDeniedError
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.rpc.server.certificate_authorizer import CertificateAuthorizer
from token_service.tokens import base64url

VALIDATE = Rights.of(Permission.VALIDATE, Permission.SUBSCRIBE)
ISSUE = Rights.of(Permission.ISSUE)
AUTHORITY = Authority()
DNS, URI = 2, 6


class Peer:
    """A peer with a certificate for the given names."""

    def __init__(
        self,
        *,
        uri: Sequence[str] = (),
        dns: Sequence[str] = (),
        raw_names: bytes | None = None,
        authority: Authority = AUTHORITY,
        lifetime: float = 3600,
        begins: float = -3600,
    ) -> None:
        names = [*map(x509.UniformResourceIdentifier, uri), *map(x509.DNSName, dns)]
        issued = authority.issue(names, raw_names=raw_names, lifetime=lifetime, begins=begins)
        self.properties: Mapping[str, list[bytes]] = {
            "x509_pem_cert": [issued.certificate],
            # The authorizer does not rely on the names that gRPC reads from a certificate.
            "peer_uri": [b"spiffe://example.org/login"],
            "peer_dns": [b"gateway.internal"],
        }

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self.properties


class Clock:
    """The clocks of this machine, set ahead by `ahead` seconds."""

    ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def authorizer_for(
    callers: Mapping[str, Rights], *authorities: Authority, clock: Clock | None = None
) -> CertificateAuthorizer:
    certificates = CertificateVerifier([each.x509 for each in authorities or (AUTHORITY,)], clock or Clock())
    return CertificateAuthorizer(callers, certificates)


KNOWN = {
    "spiffe://example.org/login": ISSUE,
    "gateway.internal": VALIDATE,
    "spiffe://example.org/validators/*": VALIDATE,
}


def refusal(authorizer: CertificateAuthorizer, peer: Peer) -> str:
    with pytest.raises(CallerUnauthenticatedError) as caught:
        authorizer.identify(peer)
    return caught.value.message


def test_in_development_every_caller_may_do_everything() -> None:
    assert TrustingAuthorizer().identify(Peer()).rights == Rights.everything()


@pytest.mark.parametrize(
    ("peer", "rights"),
    [
        (Peer(uri=["spiffe://example.org/login"]), ISSUE),
        (Peer(dns=["gateway.internal"]), VALIDATE),
        (Peer(dns=["GATEWAY.internal"]), VALIDATE),
        (Peer(uri=["spiffe://example.org/login"], dns=["gateway.internal", "other"]), ISSUE | VALIDATE),
        (Peer(uri=["spiffe://example.org/validators/eu/1"]), VALIDATE),
        (Peer(uri=["https://example.org"], dns=["gateway.internal", "*.internal"]), VALIDATE),
    ],
)
def test_a_certificate_has_the_rights_of_its_names(peer: Peer, rights: Rights) -> None:
    authorizer = authorizer_for(KNOWN)
    for _ in range(2):
        caller = authorizer.identify(peer)
        assert (caller.rights, caller.proof) == (rights, Proof.CERTIFICATE)
        (pem,) = peer.auth_context()["x509_pem_cert"]
        digest = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
        assert caller.certificate_thumbprint == base64url.encode(digest)


def test_certificate_has_the_strictest_rates_of_its_names() -> None:
    known = {
        "spiffe://example.org/login": Rights(ISSUE, {Operation.ISSUE: Rate(10, 1)}),
        "gateway.internal": Rights(VALIDATE, {Operation.ISSUE: Rate(5, 1), Operation.REVOKE: Rate(1, 1)}),
    }
    caller = authorizer_for(known).identify(
        Peer(uri=["spiffe://example.org/login"], dns=["gateway.internal"])
    )
    assert caller.rights.rates == {Operation.ISSUE: Rate(5, 1), Operation.REVOKE: Rate(1, 1)}
    assert caller.rights == Rights((*ISSUE, *VALIDATE), caller.rights.rates)
    assert caller.rights != ISSUE | VALIDATE


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        (Peer(), "neither a SPIFFE ID nor a DNS name"),
        (Peer(dns=["spiffe.example.org"]), "not known here"),
        (Peer(uri=["spiffe://example.org/loginx"]), "not known here"),
        (Peer(uri=["spiffe://example.org/validators"]), "not known here"),
        (Peer(uri=["https://example.org/validators/1"]), "neither a SPIFFE ID nor a DNS name"),
        (Peer(uri=["gateway.internal"]), "neither a SPIFFE ID nor a DNS name"),
        (Peer(dns=["*.internal"]), "neither a SPIFFE ID nor a DNS name"),
        (Peer(raw_names=subject_alt_names((DNS, b"spiffe://example.org/login"))), "DNS name"),
        (Peer(raw_names=subject_alt_names((DNS, b"gateway.internal\0.lab.test"))), "not printable"),
        (Peer(raw_names=subject_alt_names((URI, b"spiffe://example.org/login\0x"))), "not printable"),
        (
            Peer(uri=["spiffe://example.org/login", "spiffe://example.org/validators/1"]),
            "has one URI",
        ),
        *(
            (Peer(raw_names=subject_alt_names((URI, b"spiffe://example.org/validators/" + rest))), why)
            for rest, why in (
                (b"", "not a valid SPIFFE ID"),
                (b"team/", "not a valid SPIFFE ID"),
                (b"team/../x", "not a valid SPIFFE ID"),
                (b"/x", "not a valid SPIFFE ID"),
                (b"%2e%2e", "not a valid SPIFFE ID"),
                (b"x?y", "not a valid SPIFFE ID"),
                (b"x#y", "not a valid SPIFFE ID"),
                (b"x\n", "not printable"),
                (b"x y", "not a valid SPIFFE ID"),
            )
        ),
        (Peer(raw_names=subject_alt_names((URI, b"spiffe://example.org:1/login"))), "not a valid SPIFFE ID"),
        (Peer(raw_names=subject_alt_names((URI, b"spiffe://u@example.org/login"))), "not a valid SPIFFE ID"),
        (Peer(raw_names=subject_alt_names((URI, b"SPIFFE://example.org/login"))), "not a valid SPIFFE ID"),
        (Peer(uri=["spiffe://example.org/login"], begins=3000), "not valid yet"),
        (Peer(uri=["spiffe://example.org/login"], authority=Authority("stranger")), "not accepted any more"),
    ],
    ids=lambda value: "" if isinstance(value, Peer) else value,
)
def test_a_stranger_is_refused(peer: Peer, why: str) -> None:
    authorizer = authorizer_for(KNOWN)
    for _ in range(2):
        assert why in refusal(authorizer, peer)


def test_a_peer_without_a_certificate_is_refused() -> None:
    peer = Peer()
    peer.properties = {"transport_security_type": [b"ssl"], "peer_dns": [b"gateway.internal"]}
    assert "a client certificate" in refusal(authorizer_for(KNOWN), peer)


def test_a_certificate_counts_until_its_end_at_every_call() -> None:
    clock = Clock()
    authorizer = authorizer_for(KNOWN, clock=clock)
    peer = Peer(dns=["gateway.internal"], lifetime=600)
    caller = authorizer.identify(peer)
    assert 0 < caller.expire_time - time.time() <= 600
    clock.ahead = 599
    assert authorizer.rights(caller) == authorizer.identify(peer).rights == VALIDATE
    clock.ahead = 601
    assert "has expired" in refusal(authorizer, peer)
    assert authorizer.rights(caller) == Rights()


def test_an_authority_that_ends_first_ends_its_certificates() -> None:
    clock = Clock()
    short = Authority("short", lifetime=300)
    authorizer = authorizer_for(KNOWN, short, clock=clock)
    peer = Peer(dns=["gateway.internal"], authority=short)
    authorizer.identify(peer)
    clock.ahead = 301
    assert "has expired" in refusal(authorizer, peer)


def test_current_authorities_are_used() -> None:
    middle = Authority("middle", parent=AUTHORITY)
    authorizer = authorizer_for(KNOWN)
    peer, below = Peer(dns=["gateway.internal"]), Peer(dns=["gateway.internal"], authority=middle)
    callers = [authorizer.identify(each) for each in (peer, below)]
    heard: list[bool] = []
    authorizer.on_change(lambda: heard.append(True))
    authorizer._certificates.authorities = [middle.x509]
    assert heard == [True]
    assert [authorizer.rights(caller) for caller in callers] == [Rights(), VALIDATE]
    assert "not accepted any more" in refusal(authorizer, peer)
    authorizer._certificates.authorities = [middle.x509, AUTHORITY.x509]
    assert [authorizer.rights(caller) for caller in callers] == [VALIDATE, VALIDATE]


def test_changed_callers_count_at_once() -> None:
    authorizer = authorizer_for({"a": ISSUE})
    peer = Peer(dns=["a"])
    assert authorizer.identify(peer).rights == ISSUE
    authorizer.callers = {"a": VALIDATE}
    assert authorizer.identify(peer).rights == VALIDATE
    authorizer.callers = {}
    with pytest.raises(CallerUnauthenticatedError):
        authorizer.identify(peer)


def test_cache_of_callers_is_bounded() -> None:
    authorizer = authorizer_for({"spiffe://x/*": VALIDATE})
    peer = Peer(uri=["spiffe://x/1"])
    (pem,) = peer.properties["x509_pem_cert"]
    for number in range(1100):
        peer.properties = {"x509_pem_cert": [pem + b"\n" * number]}
        authorizer.identify(peer)
    assert len(authorizer._known) <= 1024
    assert len(authorizer._certificates._known) <= 1024


def test_a_chain_too_large_to_be_remembered_is_refused() -> None:
    authorizer = authorizer_for({"a": VALIDATE})
    peer = Peer(dns=["a"])
    peer.properties = {**peer.properties, "x509_pem_cert_chain": [b"\n" * 32 * 1024]}
    assert "more than 32768 bytes" in refusal(authorizer, peer)
    assert not authorizer._known
    assert not authorizer._certificates._known


def test_a_missing_permission_is_named() -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        Caller("a", VALIDATE).require(Permission.ADMIN_READ)
    assert caught.value.metadata == {"permission": "admin.read"}


def test_caller_identity_depends_only_on_its_names() -> None:
    authorizer = authorizer_for({"a": VALIDATE, "b": VALIDATE, "spiffe://x/*": VALIDATE})
    peer = Peer(uri=["spiffe://x/1"], dns=["a", "b"])
    one = authorizer.identify(peer)
    same = authorizer.identify(Peer(uri=["spiffe://x/1"], dns=["b", "a", "A"]))
    others = [
        Peer(uri=["spiffe://x/2"], dns=["a", "b"]),
        Peer(dns=["a", "b"]),
        Peer(dns=["a"]),
        Peer(uri=["spiffe://x/1"]),
    ]
    assert one.subscriber("v") == same.subscriber("v") != one.subscriber("w")
    assert len({one.subscriber("v"), *(authorizer.identify(each).subscriber("v") for each in others)}) == 5
    authorizer.callers = {"a": ISSUE}
    assert authorizer.identify(peer).subscriber("v") == one.subscriber("v")


def test_development_lets_every_caller_act_for_every_subscriber() -> None:
    assert TrustingAuthorizer().identify(Peer()).subscriber("v") == "v"


def test_open_stream_follows_current_permissions_of_its_caller() -> None:
    authorizer = authorizer_for({"a": VALIDATE, "spiffe://x/*": VALIDATE})
    heard: list[bool] = []
    a, b = authorizer.identify(Peer(dns=["a"])), authorizer.identify(Peer(uri=["spiffe://x/b"]))
    authorizer.on_change(
        lambda: heard.append(
            Permission.SUBSCRIBE in authorizer.rights(a).permissions & authorizer.rights(b).permissions
        )
    )
    authorizer.callers = {"a": VALIDATE, "spiffe://x/b": VALIDATE}
    authorizer.callers = {"a": ISSUE, "spiffe://x/*": VALIDATE}
    assert (authorizer.rights(a), authorizer.rights(b)) == (ISSUE, VALIDATE)
    authorizer.callers = {}
    assert (authorizer.rights(a), authorizer.rights(b)) == (Rights(), Rights())
    assert heard == [True, False, False]


class RegisteredClients:
    """The registered clients that authenticate with a certificate: one, or none."""

    def __init__(self, client: Client | None) -> None:
        self.client = client
        self.certificate_changes = 0
        self.lookups = 0

    def of_certificate(self, names: Iterable[str]) -> Client | None:
        self.lookups += 1
        return self.client


def test_change_of_other_clients_checks_no_certificate_again() -> None:
    authorizer = authorizer_for({})
    clients = authorizer.clients = RegisteredClients(
        Client(client_id="batch", create_time=0, update_time=0, rights=tuple(VALIDATE))
    )
    peer = Peer(uri=["spiffe://example.org/batch"])
    authorizer.clients_changed()
    assert Permission.VALIDATE in authorizer.identify(peer).permissions
    for _ in range(3):
        authorizer.clients_changed()
        authorizer.identify(peer)
    assert clients.lookups == 1
    clients.client, clients.certificate_changes = None, 1
    authorizer.clients_changed()
    assert "not known" in refusal(authorizer, peer)

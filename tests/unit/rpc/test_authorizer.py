from __future__ import annotations

from collections.abc import Mapping

import pytest

from token_service.core.callers import Permission
from token_service.errors import CallerUnauthenticatedError, PermissionDeniedError
from token_service.rpc.authorizer import Caller, CertificateAuthorizer, TrustingAuthorizer

VALIDATE = frozenset({Permission.VALIDATE, Permission.SUBSCRIBE})
ISSUE = frozenset({Permission.ISSUE})


class Peer:
    def __init__(self, **properties: list[bytes]) -> None:
        self.properties: Mapping[str, list[bytes]] = properties

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self.properties


def test_in_development_anybody_may_do_anything() -> None:
    assert TrustingAuthorizer().identify(Peer()).permissions == frozenset(Permission)


@pytest.mark.parametrize(
    ("peer", "permissions"),
    [
        (Peer(peer_uri=[b"spiffe://example.org/login"]), ISSUE),
        (Peer(peer_dns=[b"gateway.internal"]), VALIDATE),
        (
            Peer(peer_uri=[b"spiffe://example.org/login"], peer_dns=[b"gateway.internal", b"other"]),
            ISSUE | VALIDATE,
        ),
        (Peer(peer_uri=[b"spiffe://example.org/validators/eu/1"]), VALIDATE),
    ],
)
def test_a_certificate_has_the_permissions_of_its_names(
    peer: Peer, permissions: frozenset[Permission]
) -> None:
    authorizer = CertificateAuthorizer(
        {
            "spiffe://example.org/login": ISSUE,
            "gateway.internal": VALIDATE,
            "spiffe://example.org/validators/*": VALIDATE,
        }
    )
    for _ in range(2):
        assert authorizer.identify(peer).permissions == permissions


@pytest.mark.parametrize(
    "peer",
    [
        Peer(),
        Peer(transport_security_type=[b"ssl"], x509_common_name=[b"gateway.internal"]),
        Peer(peer_dns=[b"spiffe.example.org"]),
        Peer(peer_uri=[b"spiffe://example.org/loginx"]),
        Peer(peer_uri=[b"spiffe://example.org/validators"]),
        Peer(peer_uri=[b"https://example.org/validators/1"]),
        Peer(peer_uri=[b"\xff\xfe"]),
        Peer(peer_dns=[b"spiffe:"]),
    ],
)
def test_a_stranger_is_refused(peer: Peer) -> None:
    authorizer = CertificateAuthorizer(
        {
            "spiffe://example.org/login": ISSUE,
            "gateway.internal": VALIDATE,
            "spiffe://example.org/validators/*": VALIDATE,
        }
    )
    with pytest.raises(CallerUnauthenticatedError):
        authorizer.identify(peer)


def test_changed_callers_count_at_once() -> None:
    authorizer = CertificateAuthorizer({"a": ISSUE})
    assert authorizer.identify(Peer(peer_dns=[b"a"])).permissions == ISSUE
    authorizer.callers = {"a": VALIDATE}
    assert authorizer.identify(Peer(peer_dns=[b"a"])).permissions == VALIDATE
    authorizer.callers = {}
    with pytest.raises(CallerUnauthenticatedError):
        authorizer.identify(Peer(peer_dns=[b"a"]))


def test_what_is_remembered_of_callers_is_bounded() -> None:
    authorizer = CertificateAuthorizer({"spiffe://x/*": VALIDATE})
    for number in range(3000):
        authorizer.identify(Peer(peer_uri=[b"spiffe://x/%d" % number]))
    assert len(authorizer._known) <= 1024


def test_a_missing_permission_is_named() -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        Caller("a", VALIDATE).require(Permission.ADMIN)
    assert caught.value.metadata == {"permission": "admin"}


def test_who_a_caller_is_depends_on_nothing_but_its_names() -> None:
    authorizer = CertificateAuthorizer({"a": VALIDATE, "b": VALIDATE, "spiffe://x/*": VALIDATE})
    one = authorizer.identify(Peer(peer_uri=[b"spiffe://x/1"], peer_dns=[b"a", b"b"]))
    same = authorizer.identify(Peer(peer_uri=[b"spiffe://x/1"], peer_dns=[b"b", b"a", b"a"]))
    others = [
        Peer(peer_uri=[b"spiffe://x/2"], peer_dns=[b"a", b"b"]),
        Peer(peer_dns=[b"a", b"b"]),
        Peer(peer_dns=[b"a"]),
        Peer(peer_dns=[b"a, b"], peer_uri=[b"spiffe://x/1"]),
    ]
    assert one.subscriber("v") == same.subscriber("v") != one.subscriber("w")
    assert len({one.subscriber("v"), *(authorizer.identify(peer).subscriber("v") for peer in others)}) == 5
    authorizer.callers = {"a": ISSUE}
    again = authorizer.identify(Peer(peer_uri=[b"spiffe://x/1"], peer_dns=[b"a", b"b"]))
    assert again.subscriber("v") == one.subscriber("v")


def test_in_development_all_speak_for_all() -> None:
    assert TrustingAuthorizer().identify(Peer()).subscriber("v") == "v"


def test_an_open_stream_goes_by_what_its_caller_may_do_now() -> None:
    authorizer = CertificateAuthorizer({"a": VALIDATE, "spiffe://x/*": VALIDATE})
    heard: list[bool] = []
    a, b = authorizer.identify(Peer(peer_dns=[b"a"])), authorizer.identify(Peer(peer_uri=[b"spiffe://x/b"]))
    authorizer.on_change(
        lambda: heard.append(Permission.SUBSCRIBE in authorizer.permissions(a) & authorizer.permissions(b))
    )
    authorizer.callers = {"a": VALIDATE, "spiffe://x/b": VALIDATE}
    authorizer.callers = {"a": ISSUE, "spiffe://x/*": VALIDATE}
    assert (authorizer.permissions(a), authorizer.permissions(b)) == (ISSUE, VALIDATE)
    authorizer.callers = {}
    assert (authorizer.permissions(a), authorizer.permissions(b)) == (frozenset(), frozenset())
    assert heard == [True, False, False]

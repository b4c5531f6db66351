"""Proofs in the metadata of a call. `test_callers_table` tries them over a real channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from token_service.core.access.caller import Caller
from token_service.errors import CallerUnauthenticatedError
from token_service.rpc.server.authorizer import Authorizer, TrustingAuthorizer
from token_service.rpc.server.proof_authorizer import ProofAuthorizer, address_of

METHOD = "/token_service.v1.TokenService/ValidateToken"
BASIC = ("authorization", "Basic YTpi")
BEARER = ("authorization", "Bearer a.b.c")
ASSERTION = ("client-assertion", "a.b.c")


class Call:
    """A call with metadata, from a peer with or without a certificate."""

    def __init__(self, *metadata: Any, certificate: bool = False) -> None:
        self.metadata = metadata
        self.certificate = certificate

    def peer(self) -> str:
        return "ipv4:192.0.2.1:443"

    def invocation_metadata(self) -> Iterable[Any] | None:
        return self.metadata or None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {"x509_pem_cert": [b"pem"]} if self.certificate else {}


def identify(call: Call, without_proof: Authorizer | None = None) -> Any:
    authenticator: Any = None  # no proof may reach it
    return ProofAuthorizer(authenticator, without_proof).identifier(METHOD)(call)


def test_call_without_a_proof_is_left_to_the_other_authorizer() -> None:
    call = Call(("user-agent", "grpc"), ("x-bin", b"\xff"))
    assert isinstance(identify(call, TrustingAuthorizer()), Caller)
    with pytest.raises(CallerUnauthenticatedError, match="proves no caller"):
        identify(call)


@pytest.mark.parametrize(
    "call",
    [
        Call(BASIC, BEARER),
        Call(BASIC, BASIC),
        Call(BEARER, ASSERTION),
        Call(("authorization", b"Basic YTpi")),
        Call(BEARER, certificate=True),
        Call(("authorization", "Basic YTpi"), certificate=True),
    ],
)
def test_more_than_one_proof_is_refused(call: Call) -> None:
    with pytest.raises(CallerUnauthenticatedError, match="more than one proof"):
        identify(call, TrustingAuthorizer())


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:443", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:443", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:443", "2001:db8::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:443", "fe80::1"),
        ("unix:", "unix"),
    ],
)
def test_address_of_a_peer_has_neither_port_nor_brackets(peer: str, address: str) -> None:
    assert address_of(peer) == address

"""Identification of callers by a proof in the metadata of a call."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.credentials import BearerProof, parse_proof, two_proofs
from token_service.core.access.rights import Rights
from token_service.errors import CallerUnauthenticatedError, ProofInvalidError
from token_service.rpc.server.authorizer import Authorizer, Call, Identify, Peer
from token_service.rpc.server.certificate_authorizer import CertificateAuthorizer
from token_service.tokens.dpop import unverified_uri
from token_service.tokens.possession import NOTHING_PRESENTED, Presented, Scheme

_DPOP: Final = "dpop"
_ORIGIN: Final = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=/)")
_PROOFS: Final = ("authorization", "client-assertion-type", "client-assertion")
"""Metadata that proves a caller."""


class ProofAuthorizer:
    """Identifies callers by a proof in the metadata of the call, or by `without_proof`: a client certificate or trust.

    A call with a client certificate and a proof in its metadata is refused.
    """

    def __init__(
        self, authenticator: Authenticator, without_proof: Authorizer | None, *, hosts: Iterable[str] = ()
    ) -> None:
        """`without_proof` identifies callers without a proof in the metadata; None: they are refused.

        `hosts`: the names and addresses by which callers know the server. The URI of a DPoP proof must have one of them.
        """
        self._authenticator = authenticator
        self._hosts = frozenset(hosts)
        self._without_proof = without_proof
        self._listeners: list[Callable[[], None]] = []

    def identifier(self, method: str) -> Identify:
        """See `Authorizer.identifier`."""
        without_proof = None if self._without_proof is None else self._without_proof.identifier(method)
        return partial(self._identify, method, without_proof)

    def _identify(
        self, method: str, without_proof: Identify | None, call: Call
    ) -> Caller | Awaitable[Caller]:
        metadata = call.invocation_metadata() or ()
        found = _proofs_in(metadata)
        if not found:
            if without_proof is None or (
                isinstance(self._without_proof, CertificateAuthorizer) and not _has_certificate(call)
            ):
                raise CallerUnauthenticatedError(
                    "the call proves no caller; send authorization (Basic or Bearer), client-assertion, or use a "
                    "client certificate on the port for certificates"
                )
            return without_proof(call)
        if _has_certificate(call):
            raise two_proofs()
        address = address_of(call.peer())
        if len(found) == 1 and "authorization" in found:
            recognized = self._authenticator.recognize(found["authorization"], address)
            if recognized is not None:
                return recognized
        proof = parse_proof(*map(found.get, _PROOFS))
        assert proof is not None
        if isinstance(proof, BearerProof) and proof.scheme is Scheme.DPOP:
            proof = replace(proof, presented=self._presented(method, metadata))
        return self._authenticator.identify(proof, address)

    def _presented(self, method: str, metadata: Iterable[Any]) -> Presented:
        """Return the DPoP proof of a call, which is an HTTP request with POST to the path of its method."""
        proofs = [value for name, value in metadata if name == _DPOP]
        if not proofs:
            return NOTHING_PRESENTED
        if len(proofs) > 1 or not isinstance(proofs[0], str):
            raise ProofInvalidError("the metadata dpop must be sent once")
        return Presented(dpop_proof=proofs[0], method="POST", uri=self._origin(proofs[0]) + method)

    def _origin(self, proof: str) -> str:
        """Return the scheme and the authority that a proof names, if they are this server's; else empty.

        The server does not learn the name that the caller used. Ports are not compared: servers of one name have one owner.
        """
        match = _ORIGIN.match(unverified_uri(proof))
        return match[0] if match is not None and urlsplit(match[0]).hostname in self._hosts else ""

    def rights(self, caller: Caller) -> Rights:
        """See `Authorizer.rights`."""
        if caller.proof in (Proof.NONE, Proof.CERTIFICATE):
            return Rights() if self._without_proof is None else self._without_proof.rights(caller)
        return self._authenticator.rights(caller)

    def expire_time(self, caller: Caller) -> float:
        """See `Authorizer.expire_time`."""
        if caller.proof in (Proof.NONE, Proof.CERTIFICATE):
            return (
                caller.expire_time if self._without_proof is None else self._without_proof.expire_time(caller)
            )
        return self._authenticator.expire_time(caller)

    def on_change(self, listener: Callable[[], None]) -> None:
        """See `Authorizer.on_change`."""
        self._listeners.append(listener)
        if self._without_proof is not None:
            self._without_proof.on_change(listener)

    def changed(self) -> None:
        """Tell the listeners that the rights of callers may have changed."""
        for listener in self._listeners:
            listener()


@lru_cache(maxsize=4096)  # a connection makes many calls
def address_of(peer: str) -> str:
    """Return the address in the text of a peer (`ipv4:192.0.2.1:443`, `ipv6:%5B2001:db8::1%5D:443`).

    Without port, brackets and zone.
    """
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    address = unquote(rest).rpartition(":")[0]
    return address.removeprefix("[").removesuffix("]").partition("%")[0]


def _has_certificate(peer: Peer) -> bool:
    return "x509_pem_cert" in peer.auth_context()


def _proofs_in(metadata: Iterable[Any]) -> Mapping[str, str]:
    """Return the metadata that proves a caller. Raises `CallerUnauthenticatedError`."""
    found: dict[str, str] = {}
    for name, value in metadata:
        if name in _PROOFS:
            if name in found or not isinstance(value, str):
                raise two_proofs()
            found[name] = value
    return found

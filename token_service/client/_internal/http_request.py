"""What an HTTP request presents: its token, and its proofs of possession (RFC 6750, 8705, 9440, 9449)."""

from __future__ import annotations

import binascii
import hashlib
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from token_service.client.proof_rules import ProofRules
from token_service.errors import CallerUnauthenticatedError
from token_service.tokens.base64url import encode
from token_service.tokens.dpop import invalid_proof, unverified_uri
from token_service.tokens.http_uri import normalized
from token_service.tokens.possession import Presented, Scheme

_SCHEMES: Final = {"bearer": Scheme.BEARER, "dpop": Scheme.DPOP}
_BYTES: Final = re.compile(r"[ \t]*:([A-Za-z0-9+/=]+):[ \t]*", re.ASCII)  # RFC 8941, section 3.3.5


class BadRequestError(Exception):
    """The request is malformed, or recipients could read it in different ways."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The parts of a request that proofs of possession are about."""

    method: str
    path: str
    """The path as the client sent it, percent-encoded, without query."""
    peer: str
    """The address of the other end of the connection; empty: it has none, because it is a unix socket."""
    certificate: str = field(repr=False)
    """The client certificate of the TLS connection, PEM; empty: none, or the connection does not end here."""
    header: Callable[[str], Sequence[str]] = field(repr=False)
    """Returns the values of a header; its name is in lower case."""


def credentials(values: Sequence[str]) -> tuple[str, Scheme]:
    """Return the token in the values of `Authorization`, and the scheme.

    Raises `CallerUnauthenticatedError` for a request without a token, and `BadRequestError` for one with several headers.
    """
    if len(values) > 1:
        raise BadRequestError("more than one Authorization header")
    name, space, token = values[0].partition(" ") if values else ("", "", "")
    scheme = _SCHEMES.get(name.lower())
    token = token.strip(" ")
    if scheme is None or not space or not token or " " in token:
        raise CallerUnauthenticatedError("an access token is needed")
    return token, scheme


def presented(request: HttpRequest, rules: ProofRules, *, of_dpop: bool) -> Presented:
    """Return the proofs of a request. `of_dpop`: a DPoP proof is needed, too.

    Raises `InvalidTokenError` with PROOF_INVALID, and `BadRequestError` for a malformed `Client-Cert` of a trusted proxy.
    """
    proofs = request.header("dpop") if of_dpop else ()
    if len(proofs) > 1:
        raise invalid_proof("the request has more than one DPoP header")
    proof = proofs[0] if proofs else None
    is_proxied = rules.trusts(request.peer)
    return Presented(
        dpop_proof=proof,
        method=request.method,
        uri="" if proof is None else _origin(request, rules, proof, is_proxied=is_proxied) + request.path,
        certificate_thumbprint=_thumbprint(request, rules, is_proxied=is_proxied),
    )


def _origin(request: HttpRequest, rules: ProofRules, proof: str, *, is_proxied: bool) -> str:
    """Return the origin by which the client knows the service. `Host` says nothing: any client can choose it."""
    origins = tuple(rules.origins)
    if origins:
        # All of them are the service itself, so the proof may say which one it is for.
        return origins[0] if len(origins) == 1 else named_origin(proof, origins)
    schemes, hosts = request.header("x-forwarded-proto"), request.header("x-forwarded-host")
    if not (rules.forwarded_origin and is_proxied and len(schemes) == len(hosts) == 1):
        raise invalid_proof("the origin of the service is not known here")
    try:
        return normalized(f"{schemes[0].strip()}://{hosts[0].strip()}").removesuffix("/")
    except ValueError:
        raise invalid_proof("the proxy does not tell one origin of the service") from None


def named_origin(proof: str, origins: tuple[str, ...]) -> str:
    """Return the one of some origins that the `htu` of an unverified proof names, or else the first one."""
    try:
        uri = normalized(unverified_uri(proof))
    except ValueError:
        return origins[0]  # no such proof verifies
    return next((each for each in origins if uri.startswith(f"{each}/")), origins[0])


def _thumbprint(request: HttpRequest, rules: ProofRules, *, is_proxied: bool) -> str:
    """Return the `x5t#S256` of the client certificate (RFC 8705, section 3.1); empty: the client presented none."""
    if not is_proxied:
        certificate = request.certificate
        return _digest(ssl.PEM_cert_to_DER_cert(certificate)) if certificate else ""
    # The certificate of the connection is that of the proxy.
    values = request.header("client-cert") if rules.client_cert else ()
    if not values:
        return ""
    match = _BYTES.fullmatch(values[0]) if len(values) == 1 else None
    try:
        return _digest(b64decode(match[1], validate=True)) if match else _refuse_certificate()
    except binascii.Error:
        return _refuse_certificate()


def _refuse_certificate() -> str:
    raise BadRequestError("Client-Cert is no certificate in base64 between colons (RFC 9440, section 2.1)")


def _digest(der: bytes) -> str:
    return encode(hashlib.sha256(der).digest())

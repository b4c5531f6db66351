"""The proofs in a request: what a caller presents to be identified, the same on every edge."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote_plus

from token_service.core.limits import MAX_CLIENT_ID
from token_service.errors import CallerUnauthenticatedError
from token_service.tokens.assertions import MAX_ASSERTION_BYTES
from token_service.tokens.possession import NOTHING_PRESENTED, Presented, Scheme
from token_service.tokens.secret import Secret
from token_service.tokens.verifier import MAX_TOKEN_BYTES

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The one accepted type of a client assertion (RFC 7523, section 2.2)."""
MAX_CLIENT_SECRET: Final = 256
"""Bytes of a presented client secret."""
_MAX_BASIC: Final = 4 * (3 * MAX_CLIENT_ID + 3 * MAX_CLIENT_SECRET + 1) // 3 + 4
"""Characters of Basic credentials: each byte may be percent-encoded, then base64."""


@dataclass(frozen=True, slots=True)
class ClientSecretProof:
    """`client_id` and secret (RFC 6749, section 2.3.1)."""

    client_id: str
    secret: Secret
    authorization: str = field(default="", repr=False, compare=False)
    """The header field that has both; empty: it is not known."""


@dataclass(frozen=True, slots=True)
class AssertionProof:
    """A JWT signed by the client (RFC 7523)."""

    assertion: str

    def __repr__(self) -> str:
        return "<AssertionProof>"


@dataclass(frozen=True, slots=True)
class BearerProof:
    """A token: an access token of this service, or a token of a workload issuer (RFC 6750; RFC 9449, section 7)."""

    token: str
    scheme: Scheme = Scheme.BEARER
    presented: Presented = NOTHING_PRESENTED
    """What the request proves besides, for a token that is bound to a key."""

    def __repr__(self) -> str:
        return "<BearerProof>"


@dataclass(frozen=True, slots=True)
class PublicClientProof:
    """The `client_id` of a public client, which proves nothing (RFC 6749, section 2.1). Only HTTP accepts it."""

    client_id: str


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """`client_id` and the certificate of the connection (RFC 8705, section 2). Only HTTP has it beside other proofs."""

    client_id: str
    chain: bytes = field(repr=False)
    """PEM, the certificate first; empty: the client has none."""


CallerProof = ClientSecretProof | AssertionProof | BearerProof | PublicClientProof | CertificateProof


def parse_proof(
    authorization: str | None, assertion_type: str | None, assertion: str | None
) -> CallerProof | None:
    """Return the proof in a request; None if it has none.

    `authorization`: the header of RFC 9110, section 11.6.2. Raises `CallerUnauthenticatedError` for an unreadable
    proof and for two proofs in one request (RFC 6749, section 2.3).
    """
    if assertion is None and assertion_type is None:
        return None if authorization is None else _parse_authorization(authorization)
    if authorization is not None:
        raise two_proofs()
    if assertion_type != ASSERTION_TYPE:
        raise CallerUnauthenticatedError(f"client-assertion-type must be {ASSERTION_TYPE}")
    if not assertion:
        raise CallerUnauthenticatedError("client-assertion is missing")
    if len(assertion) > MAX_ASSERTION_BYTES:
        raise CallerUnauthenticatedError(f"client-assertion is longer than {MAX_ASSERTION_BYTES} bytes")
    return AssertionProof(assertion)


def two_proofs() -> CallerUnauthenticatedError:
    """Return the error for a request with more than one proof."""
    return CallerUnauthenticatedError(
        "the call has more than one proof of its caller; send exactly one of: a client certificate, authorization, "
        "client-assertion"
    )


def _parse_authorization(header: str) -> CallerProof:
    scheme, _, value = header.partition(" ")
    value = value.strip(" ")
    match scheme.lower():
        case "basic":
            return replace(_parse_basic(value), authorization=header)
        case "bearer" | "dpop":
            if not value or " " in value:
                raise CallerUnauthenticatedError("authorization: Bearer and DPoP need exactly one token")
            if len(value) > MAX_TOKEN_BYTES:
                raise CallerUnauthenticatedError(f"the bearer token is longer than {MAX_TOKEN_BYTES} bytes")
            return BearerProof(value, Scheme.DPOP if scheme.lower() == "dpop" else Scheme.BEARER)
    raise CallerUnauthenticatedError("authorization must use the scheme Basic, Bearer or DPoP")


def _parse_basic(value: str) -> ClientSecretProof:
    """Parse Basic credentials. Both parts are form-encoded (RFC 6749, section 2.3.1)."""
    if len(value) > _MAX_BASIC:
        raise CallerUnauthenticatedError("authorization: Basic is too long")
    try:
        client_id, colon, secret = b64decode(value, validate=True).decode("ascii").partition(":")
        client_id = unquote_plus(client_id, errors="strict")
        secret = unquote_plus(secret, errors="strict")
    except ValueError:
        raise CallerUnauthenticatedError(
            "authorization: Basic is not base64 of client_id:client_secret, each form-encoded"
        ) from None
    if not colon or not client_id or not secret:
        raise CallerUnauthenticatedError("authorization: Basic lacks the client_id or the secret")
    if len(client_id) > MAX_CLIENT_ID or len(secret) > MAX_CLIENT_SECRET:
        raise CallerUnauthenticatedError("authorization: Basic has a client_id or a secret that is too long")
    return ClientSecretProof(client_id, Secret(secret.encode()))

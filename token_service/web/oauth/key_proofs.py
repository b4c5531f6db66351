"""Reads the proofs of keys in HTTP requests: the header `DPoP` (RFC 9449) and the client certificate (RFC 8705)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from token_service.certificates.client import thumbprint_of
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.access.proved_keys import ProvedKeys
from token_service.errors import ProofInvalidError, ServiceError
from token_service.tokens.possession import Presented
from token_service.web.peer import peer_of

DPOP: Final = "DPoP"
DPOP_NONCE: Final = "DPoP-Nonce"


class HttpKeyProofs:
    """Reads and judges proofs of keys.

    The URI of a proof must be that of the endpoint as the discovery document names it, whatever names a proxy or the
    header `Host` give to this service.
    """

    def __init__(self, proofs: KeyProofs, issuer: str) -> None:
        self._proofs = proofs
        parts = urlsplit(issuer)
        self._origin = f"{parts.scheme}://{parts.netloc}"

    def presented(self, request: Request) -> Presented:
        """Return the proofs in a request. Raises `ProofInvalidError` for two DPoP proofs."""
        proofs = request.headers.getlist(DPOP)
        if len(proofs) > 1:
            raise ProofInvalidError("the header DPoP must be sent once")
        return Presented(
            dpop_proof=proofs[0] if proofs else None,
            method=request.method,
            uri=self._origin + request.scope["path"],
            certificate_thumbprint=thumbprint_of(peer_of(request).chain),
        )

    def prove(self, request: Request, client_id: str) -> ProvedKeys:
        """Return the keys that a client proves in a request for tokens. See `KeyProofs.prove`."""
        return self._proofs.prove(self.presented(request), client_id)

    def headers(self, keys: ProvedKeys, client_id: str) -> dict[str, str]:
        """Return the headers for a successful response: the nonce for the next DPoP proof, if the client needs one."""
        return self.nonce(client_id) if keys.jkt else {}

    def nonce(self, client_id: str) -> dict[str, str]:
        """Return the header with the nonce for the next DPoP proof of a client; empty: it needs none."""
        nonce = self._proofs.nonce(client_id)
        return {DPOP_NONCE: nonce} if nonce else {}


def nonce_headers(error: ServiceError) -> dict[str, str]:
    """Return the headers for a refusal: the nonce that the DPoP proof lacks."""
    nonce = error.metadata.get("dpop_nonce")
    return {DPOP_NONCE: nonce} if nonce else {}

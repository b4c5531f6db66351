"""The DPoP proofs that a caller sends: with its access tokens (RFC 9449, section 7), and to renew them (section 5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from token_service.client._internal.token_store import Tokens
from token_service.client.dpop_key import DpopKey
from token_service.errors import ConfigurationError
from token_service.v1.token_service_pb2 import RefreshTokenRequest

METHOD: Final = "POST"
"""The method in the proof of a gRPC call."""
_REFRESH_URI: Final = "https://token-service/token_service.v1.TokenService/RefreshToken"
"""The URI in the proof of a renewal. The request itself names it, and a stub does not tell where it calls."""


def key_of(source: Any) -> DpopKey | None:
    """Return the key of a token source; None: it has none."""
    key = getattr(source, "dpop_key", None)
    return key if isinstance(key, DpopKey) else None


def is_bound(tokens: Tokens) -> bool:
    """Return whether the access token needs a DPoP proof."""
    return tokens.token_type.lower() == "dpop"


@dataclass(frozen=True, slots=True)
class ProofOrder:
    """A proof to be made."""

    key: DpopKey
    method: str
    uri: str
    access_token: str | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, key: DpopKey | None, method: str, uri: str, tokens: Tokens, nonce: str | None) -> ProofOrder:
        """Return the order for a request with a bound token. Raises `ConfigurationError` without a key."""
        if key is None:
            raise ConfigurationError(
                "the access token is bound to a DPoP key; give the token source its key (dpop_key)"
            )
        return cls(key, method, uri, tokens.access_token, nonce)

    def make(self) -> str:
        """Return the proof. Blocks while the signer does."""
        return self.key.proof(self.method, self.uri, access_token=self.access_token, nonce=self.nonce)

    async def make_async(self) -> str:
        """Return the proof without blocking the event loop."""
        # A key in memory signs in microseconds; another thread would take longer.
        return await asyncio.to_thread(self.make) if self.key.may_block else self.make()


def refresh_order(key: DpopKey) -> ProofOrder:
    """Return the order for the proof of a renewal."""
    return ProofOrder(key, METHOD, _REFRESH_URI)


def bind(request: RefreshTokenRequest, proof: str) -> None:
    """Add the proof of a renewal to its request."""
    request.binding.dpop_proof = proof
    request.binding.http_method = METHOD
    request.binding.http_uri = _REFRESH_URI

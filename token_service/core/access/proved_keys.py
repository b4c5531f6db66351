"""The keys that a token request proves: one by a DPoP proof (RFC 9449), one by its client certificate (RFC 8705)."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from token_service.core.clients.client import Client
from token_service.core.clients.profile import is_fapi
from token_service.errors import BindingRequiredError, InvalidRequestError, WrongKeyError
from token_service.tokens.claims import Confirmation


async def _nothing() -> None:
    """Record nothing: the request has no DPoP proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedKeys:
    """The keys that the sender of a request has."""

    jkt: str = ""
    """The thumbprint of the key of a verified DPoP proof; empty: the request has no proof."""
    certificate_thumbprint: str = ""
    """The `x5t#S256` of the client certificate; empty: the client has none."""
    record: Callable[[], Awaitable[None]] = field(default=_nothing, repr=False, compare=False)
    """Records the use of the DPoP proof, on all nodes. Call it once, when nothing else is left to check.

    Raises `ProofInvalidError` if the proof was used before, and `StoreUnavailableError`.
    """

    @property
    def confirmations(self) -> tuple[Confirmation, ...]:
        """The keys, each as the one that a token may be bound to."""
        found = []
        if self.jkt:
            found.append(Confirmation(jkt=self.jkt))
        if self.certificate_thumbprint:
            found.append(Confirmation(x5t_s256=self.certificate_thumbprint))
        return tuple(found)

    def require(self, bound: Confirmation, what: str) -> None:
        """Raise an error unless the request proves the key that `what` is bound to; a bearer token is bound to none.

        Raises `BindingRequiredError` without a proof, and `WrongKeyError` for another key.
        """
        if bound.is_unknown:
            raise BindingRequiredError(f"{what} is bound to a key in a way that can't be checked here")
        for key, proved, how in (
            (bound.jkt, self.jkt, "a DPoP key; send a DPoP proof of it"),
            (bound.x5t_s256, self.certificate_thumbprint, "a client certificate; send it over mutual TLS"),
        ):
            if key and not proved:
                raise BindingRequiredError(f"{what} is bound to {how}")
            if key and not hmac.compare_digest(key.encode(), proved.encode()):
                raise WrongKeyError(f"{what} is bound to another key than the one that the request proves")

    def confirmation(self, client: Client) -> Confirmation:
        """Return the key that new tokens of a client are bound to; empty: they are bearer tokens.

        The registration of the client decides about its certificate, and a DPoP proof about itself. A client with the FAPI
        2.0 Security Profile, whose tokens must be bound, may have either. Raises
        `BindingRequiredError` if the client is registered for bound tokens, and `InvalidRequestError` for both keys.
        """
        if client.tls_client_certificate_bound_access_tokens:
            if self.jkt:
                raise InvalidRequestError.of(
                    "DPoP", "must not be sent: the client is registered for tokens bound to its certificate"
                )
            if not self.certificate_thumbprint:
                raise BindingRequiredError(
                    "the client is registered for tokens bound to its certificate, and the connection has none"
                )
            return Confirmation(x5t_s256=self.certificate_thumbprint)
        if not self.jkt:
            if client.dpop_bound_access_tokens:
                raise BindingRequiredError(
                    "the client is registered for DPoP-bound tokens; send a DPoP proof"
                )
            return Confirmation(x5t_s256=self.certificate_thumbprint) if is_fapi(client) else _BEARER
        return Confirmation(jkt=self.jkt)


_BEARER: Final = Confirmation()
NO_KEYS: Final = ProvedKeys()
"""The keys of a request without a proof and without a certificate."""

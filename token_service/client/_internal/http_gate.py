"""Decisions about the requests of an HTTP service, for every framework."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Any, Final, Protocol

from token_service.client._internal.bearer import require_bearer
from token_service.client._internal.clock import SystemValidatorClock, ValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.http_refusals import Challenger, Refusal
from token_service.client._internal.http_request import BadRequestError, HttpRequest, credentials, presented
from token_service.client._internal.transaction import TXN_TOKEN, Transaction, transaction_of
from token_service.client.proof_rules import ProofRules, nonces_of
from token_service.client.requirements import Requirements
from token_service.client.resource_metadata import ResourceMetadata
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    InvalidTokenError,
    TokenServiceError,
)
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.possession import PossessionChecker, Scheme

_PROVEN: Final = "token_service.proven"
DOCUMENT_HEADERS: Final = (
    ("content-type", "application/json"),
    ("cache-control", "max-age=3600"),
    (
        "access-control-allow-origin",
        "*",
    ),  # the document is public, and clients in browsers of other origins read it
)


class Counting(Protocol):
    """A validator, as the gate needs it."""

    @property
    def counters(self) -> Counters:
        """The counters of the validator."""
        ...


class HttpGate:
    """Decides about requests, besides the validation of their tokens. It does no I/O, and any thread may call it."""

    def __init__(
        self,
        *,
        realm: str = "",
        resource_metadata: ResourceMetadata | str | None = None,
        proofs: ProofRules | None = None,
        allow_bound_tokens: bool = False,
        trust_domain: str = "",
        clock: ValidatorClock | None = None,
    ) -> None:
        """Configure the gate.

        `resource_metadata` is the document to serve, or its URL if another server serves it. With a `trust_domain`, requests
        need a transaction token in `Txn-Token`, instead of an access token.
        """
        if any(ord(character) < 32 or character in '"\\' or ord(character) > 126 for character in realm):
            raise ConfigurationError("the realm must be printable ASCII without quotes and backslashes")
        self._proofs = proofs = proofs or ProofRules()
        self._allow_bound_tokens = allow_bound_tokens
        self._trust_domain = trust_domain
        clock = clock or SystemValidatorClock()
        self._now, self._elapsed = clock.now, clock.elapsed
        self._nonces = nonces_of(proofs)
        self._checker = PossessionChecker(max_age=proofs.max_age, nonces=self._nonces)
        self.document: bytes | None = None
        """The metadata of the resource (RFC 9728), JSON; None: it is not served here."""
        self._document_path = ""
        url = resource_metadata or ""
        if isinstance(resource_metadata, ResourceMetadata):
            self.document = resource_metadata.document(accepts_dpop=proofs.accepts_dpop)
            self._document_path, url = resource_metadata.path, resource_metadata.url
        self.challenger = Challenger(
            realm=realm, resource_metadata=str(url), accepts_dpop=proofs.accepts_dpop
        )

    def asks_for_document(self, method: str, paths: Collection[str]) -> bool:
        """Return whether a request asks for the metadata of the resource. `paths` are all readings of its path."""
        return (
            self.document is not None
            and method in {"GET", "HEAD"}
            and len(paths) == 1
            and self._document_path in paths
        )

    def credentials(self, header: Callable[[str], Sequence[str]]) -> tuple[str, Scheme]:
        """Return the token of a request and its scheme. `header` returns the values of a header.

        Raises `CallerUnauthenticatedError` for a request without a token, and `BadRequestError` for one with several.
        """
        if not self._trust_domain:
            return credentials(header("authorization"))
        tokens = header(TXN_TOKEN)
        if not tokens:
            raise CallerUnauthenticatedError("a transaction token is needed in Txn-Token")
        if len(tokens) > 1:
            raise BadRequestError("more than one Txn-Token header")
        return tokens[0], Scheme.BEARER

    def transaction(self, token: str, claims: VerifiedClaims) -> Transaction | None:
        """Return the transaction of a request; None: it has an access token. Raises `InvalidTokenError` for the other kind."""
        return transaction_of(token, claims, self._trust_domain)

    def admit(
        self,
        claims: VerifiedClaims,
        token: str,
        scheme: Scheme,
        requirements: Requirements | None,
        state: MutableMapping[str, Any],
        request: Callable[[MutableMapping[str, Any]], HttpRequest],
        validator: Counting,
    ) -> None:
        """Check possession of the key that a valid token is bound to, and the requirements.

        `requirements` is None if the validator has checked all of them. `state` is that of the request, and `request`
        reads the proofs in it. A proof is used once, so a second check of the same request finds the result of the
        first one in `state`. Raises `InvalidTokenError`,
        `BadRequestError` or `OverloadedError`.
        """
        try:
            # The claims of nearly all tokens are decoded once for this look-up, which the application needs, too.
            if (claims.confirmation or scheme is Scheme.DPOP) and not self._allow_bound_tokens:
                self._prove(claims, token, scheme, state, request)
            if requirements is not None:
                requirements.check(claims, self._now())
        except InvalidTokenError as error:
            validator.counters.rejected[error.reason.value] += 1
            raise

    def _prove(
        self,
        claims: VerifiedClaims,
        token: str,
        scheme: Scheme,
        state: MutableMapping[str, Any],
        request: Callable[[MutableMapping[str, Any]], HttpRequest],
    ) -> None:
        proven = self, hashlib.sha256(token.encode()).digest()
        if state.get(_PROVEN) == proven:
            return
        confirmation = claims.confirmation
        if confirmation.jkt and not self._proofs.accepts_dpop:
            require_bearer(claims)
        self._checker.check(
            confirmation,
            token,
            presented(request(state), self._proofs, of_dpop=bool(confirmation.jkt)),
            scheme=scheme,
            now=self._now(),
            elapsed=self._elapsed(),
        )
        state[_PROVEN] = proven

    def refuse(
        self, error: TokenServiceError | BadRequestError, requirements: Requirements | None
    ) -> Refusal:
        """Return the response to a request that failed a check."""
        if isinstance(error, BadRequestError):
            return self.challenger.invalid_request(error.message)
        nonce = None if self._nonces is None else self._nonces.current(self._now())
        return self.challenger.refusal(error, requirements or Requirements(), nonce)


def is_preflight(method: str, header: Callable[[str], Any]) -> bool:
    """Return whether a request is a CORS preflight, which browsers send without credentials (Fetch, section 3.2.2)."""
    return (
        method == "OPTIONS"
        and bool(header("origin"))
        and bool(header("access-control-request-method"))
        and not header("authorization")
    )

"""The checks of the gRPC interceptors before and after the validation of a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from token_service.client._internal.bearer import bearer_token
from token_service.client._internal.clock import SystemValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.grpc_refusals import RefusedError, refusal_status
from token_service.client._internal.http_request import named_origin
from token_service.client._internal.peer_certificate import certificate_thumbprint
from token_service.client._internal.transaction import TXN_TOKEN, Transaction, transaction_of
from token_service.client.auth_rules import AuthRules
from token_service.client.proof_rules import nonces_of
from token_service.client.requirements import Requirements
from token_service.errors import CallerUnauthenticatedError, InvalidReason, InvalidTokenError, ServiceError
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.dpop import invalid_proof
from token_service.tokens.possession import PossessionChecker, Presented, Scheme

_METHOD = "POST"  # of each gRPC call
_MAX_KNOWN_METHODS = 1024
_BEARER, _DPOP = Scheme.BEARER, Scheme.DPOP


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method requires."""

    required: Requirements
    scopes: frozenset[str]
    audience: str | None
    asks_more: bool
    """Whether the requirements name more than the validator checks."""


class Call:
    """A call with a token."""

    __slots__ = ("metadata", "method", "rule", "scheme", "token")

    def __init__(self, rule: Rule, method: str, metadata: Any, scheme: Scheme, token: str) -> None:
        self.rule = rule
        self.method = method
        self.metadata = metadata
        self.scheme = scheme
        self.token = token


class GrpcGate:
    """The checks of one interceptor. Any thread may call it; it does no I/O."""

    def __init__(self, rules: AuthRules, counters: Counters) -> None:
        self._rules = rules
        self._counters = counters
        self._known: dict[str, Rule | None] = {}
        self._clock = SystemValidatorClock()
        self._origins = tuple(rules.proofs.origins)
        self._nonces = nonces_of(rules.proofs)
        self._checker = PossessionChecker(max_age=rules.proofs.max_age, nonces=self._nonces)

    def rule(self, method: str) -> Rule | None:
        """Return what a method requires; None: it is public."""
        try:
            return self._known[method]
        except KeyError:
            required = self._rules.required(method)
            rule = None if required is None else _rule_of(required)
            if len(self._known) < _MAX_KNOWN_METHODS:  # a caller may ask for methods that do not exist
                self._known[method] = rule
            return rule

    def token(self, rule: Rule, metadata: Any) -> tuple[str, Scheme]:
        """Return the token of a call, and the scheme that presents it. Raises `RefusedError`."""
        if self._rules.trust_domain:
            tokens = [value for name, value in metadata or () if name == TXN_TOKEN]
            if len(tokens) == 1 and isinstance(tokens[0], str):
                return tokens[0], _BEARER
            raise self.refused(
                CallerUnauthenticatedError("the call needs one transaction token in txn-token"), rule
            )
        headers = [value for name, value in metadata or () if name == "authorization"]
        if len(headers) == 1 and isinstance(headers[0], str):
            token = bearer_token(headers[0])
            if token is not None:
                return token, _BEARER
            token = _dpop_token(headers[0])
            if token is not None:
                return token, _DPOP
        said = (
            "the call has more than one authorization"
            if len(headers) > 1
            else "the call has no token in authorization"
        )
        raise self.refused(CallerUnauthenticatedError(said), rule)

    def transaction(self, token: str, claims: VerifiedClaims) -> Transaction | None:
        """Return the transaction of a call; None: it has an access token. Raises `InvalidTokenError` for the other kind."""
        return transaction_of(token, claims, self._rules.trust_domain)

    def examine(self, call: Call, claims: VerifiedClaims) -> bool:
        """Check what the validator did not check. A bearer token of a method that only needs scopes needs no call of it.

        Returns True if only the client certificate remains to be checked: `prove` does it, with the context of the call.
        Raises `InvalidTokenError` or `OverloadedError`.
        """
        try:
            if call.rule.asks_more:
                call.rule.required.check(claims, self._clock.now())
            if self._rules.allow_bound_tokens:
                return False
            if claims.confirmation.x5t_s256:
                return True
            if claims.confirmation or call.scheme is not _BEARER:
                self._check(call, claims, "")
        except InvalidTokenError as error:
            self._counters.rejected[error.reason.value] += 1
            raise
        return False

    def prove(self, call: Call, claims: VerifiedClaims, context: Any) -> None:
        """Check the proofs of a call whose token is bound to a client certificate.

        Raises `InvalidTokenError` or `OverloadedError`.
        """
        try:
            self._check(call, claims, certificate_thumbprint(context.auth_context()))
        except InvalidTokenError as error:
            self._counters.rejected[error.reason.value] += 1
            raise

    def refused(self, error: InvalidTokenError | ServiceError, rule: Rule) -> RefusedError:
        """Return the refusal of a call."""
        nonce = None if self._nonces is None else self._nonces.current(self._clock.now())
        return RefusedError(refusal_status(error, rule.required, nonce))

    def _check(self, call: Call, claims: VerifiedClaims, thumbprint: str) -> None:
        confirmation = claims.confirmation
        if confirmation.jkt and not self._origins:
            raise InvalidTokenError(
                InvalidReason.PROOF_MISSING,
                "the token is bound to a DPoP key, and this server accepts no DPoP proofs",
            )
        proofs = [value for name, value in call.metadata if name == "dpop"] if confirmation.jkt else []
        if len(proofs) > 1:
            raise invalid_proof("the call has more than one")
        proof = proofs[0] if proofs and isinstance(proofs[0], str) else None
        presented = Presented(
            dpop_proof=proof,
            method=_METHOD,
            uri="" if proof is None else named_origin(proof, self._origins) + call.method,
            certificate_thumbprint=thumbprint,
        )
        self._checker.check(
            confirmation,
            call.token,
            presented,
            scheme=call.scheme,
            now=self._clock.now(),
            elapsed=self._clock.elapsed(),
        )


def _rule_of(required: Requirements) -> Rule:
    of_validator = Requirements(scopes=required.scopes, audience=required.audience)
    return Rule(required, frozenset(required.scopes), required.audience, required != of_validator)


def _dpop_token(header: str) -> str | None:
    """Return the token of an `Authorization` header with the scheme `DPoP`, or None."""
    scheme, _, rest = header.partition(" ")
    return bearer_token(f"Bearer {rest}") if scheme.lower() == "dpop" else None

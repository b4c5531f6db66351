"""Judges the proofs of keys in requests to this service: at its endpoints for tokens, and at its protected resources."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import ProvedKeys
from token_service.core.access.used_ids import UsedIds
from token_service.core.policies.policies import Policies
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidReason,
    InvalidTokenError,
    ProofInvalidError,
    ProofNonceRequiredError,
    ServiceError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.dpop import DpopProof, verify_proof
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.possession import (
    MAX_PROOF_AGE,
    PROOF_LEEWAY,
    PossessionChecker,
    Presented,
    Scheme,
    check_age,
)
from token_service.tokens.replays import Replays


class KeyProofs:
    """Judges proofs of keys.

    A DPoP proof in a request for tokens counts once on all nodes, which costs a row in the database until it has
    expired. One at a protected resource of this service counts once in this process, and costs no I/O.
    """

    def __init__(
        self,
        policies: Policies,
        used_ids: UsedIds,
        clock: Clock,
        nonces: Callable[[], DpopNonces],
        algorithms: Callable[[str], Collection[Algorithm]],
    ) -> None:
        """`nonces` returns the nonces by the current keys, and `algorithms` those that may sign the proofs of a client."""
        self._policies = policies
        self._used_ids = used_ids
        self._clock = clock
        self._nonces = nonces
        self._algorithms = algorithms
        self._replays = Replays(MAX_PROOF_AGE + 2 * PROOF_LEEWAY)

    def prove(self, presented: Presented, client_id: str, *, is_passed_on: bool = False) -> ProvedKeys:
        """Return the keys that a client proves in a request for tokens. Call `record` of the result before tokens are issued.

        `is_passed_on`: the proof was sent to a caller, which names the URI. Its nonce is not known here. Raises
        `ProofInvalidError` and `ProofNonceRequiredError`.
        """
        thumbprint = presented.certificate_thumbprint
        if presented.dpop_proof is None:
            return ProvedKeys(certificate_thumbprint=thumbprint)
        now = self._clock.now()
        try:
            proof = verify_proof(
                presented.dpop_proof,
                method=presented.method,
                uri=presented.uri,
                access_token=None,
                algorithms=self._algorithms(client_id),
            )
            check_age(proof, now)
        except InvalidTokenError as error:
            raise ProofInvalidError(error.message) from None
        if is_passed_on:
            # A resource could name its own URI, and pass on the proof with which it got an access token.
            if proof.is_of_token:
                raise ProofInvalidError("DPoP proof: it was made for an access token; make one without ath")
        elif self.needs_nonce(client_id):
            nonces = self._nonces()
            if not (proof.nonce and nonces.accepts(proof.nonce, now)):
                raise self._nonce_required()
        return ProvedKeys(
            jkt=proof.jkt, certificate_thumbprint=thumbprint, record=partial(self._record, proof)
        )

    def prove_of_holder(self, caller: Caller, client_id: str, presented: Presented) -> ProvedKeys:
        """Return the keys that the holder of a token of a client proves, as a caller passes on what the holder sent.

        The client itself could name any certificate, so only the one of its own connection counts. Another caller speaks
        for the holder, and its own certificate counts if it names none. Raises `ProofInvalidError`.
        """
        if caller.client_id == client_id or not presented.certificate_thumbprint:
            presented = replace(presented, certificate_thumbprint=caller.certificate_thumbprint)
        return self.prove(presented, client_id, is_passed_on=True)

    def check(self, claims: VerifiedClaims, token: str, presented: Presented, scheme: Scheme) -> None:
        """Raise an error unless a request to this service proves the key that its access token is bound to.

        A bearer token needs no proof. Raises `CallerUnauthenticatedError`, `ProofInvalidError`, `ProofNonceRequiredError`
        and `OverloadedError`.
        """
        with_nonce = scheme is Scheme.DPOP and self.needs_nonce(claims.client_id)
        checker = PossessionChecker(
            nonces=self._nonces() if with_nonce else None,
            replays=self._replays,
            algorithms=self._algorithms(claims.client_id),
        )
        try:
            checker.check(
                claims.confirmation,
                token,
                presented,
                scheme=scheme,
                now=self._clock.now(),
                elapsed=self._clock.monotonic(),
            )
        except InvalidTokenError as error:
            raise self._refusal(error, claims) from None

    def needs_nonce(self, client_id: str) -> bool:
        """Tell whether the DPoP proofs of a client must have a nonce.

        Raises `PolicyViolationError` if the policy book has lost the classification of the client.
        """
        return self._policies.of(client_id).dpop_nonces

    def nonce(self, client_id: str) -> str:
        """Return the nonce for the next proof of a client; empty: it needs none."""
        return self._nonces().current(self._clock.now()) if self.needs_nonce(client_id) else ""

    async def _record(self, proof: DpopProof) -> None:
        now, end = self._clock.now(), proof.issue_time + MAX_PROOF_AGE + PROOF_LEEWAY
        try:
            check_age(
                proof, now
            )  # again: while the request waited, the record of an earlier use may have been forgotten
        except InvalidTokenError as error:
            raise ProofInvalidError(error.message) from None
        if not await self._used_ids.use(f"dpop:{proof.jkt}", proof.proof_id, end, now):
            raise ProofInvalidError("DPoP proof: jti was used before")

    def _refusal(self, error: InvalidTokenError, claims: VerifiedClaims) -> ServiceError:
        if error.reason is InvalidReason.PROOF_NONCE:
            return self._nonce_required()
        if error.reason is InvalidReason.PROOF_INVALID:
            return ProofInvalidError(error.message)
        scheme = Scheme.DPOP if claims.confirmation.jkt else Scheme.BEARER
        return CallerUnauthenticatedError(error.message, metadata={"scheme": scheme.value})

    def _nonce_required(self) -> ProofNonceRequiredError:
        return ProofNonceRequiredError(metadata={"dpop_nonce": self._nonces().current(self._clock.now())})

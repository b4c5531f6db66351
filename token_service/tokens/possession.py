"""Proof of possession: whether the sender of a token has the key that the token is bound to (RFC 9449, RFC 8705)."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm
from token_service.tokens.claims import Confirmation
from token_service.tokens.dpop import DpopProof, invalid_proof, verify_proof
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.replays import Replays

MAX_PROOF_AGE: Final = 60.0
"""Seconds for which a DPoP proof is accepted after `iat`."""
PROOF_LEEWAY: Final = 10.0
"""Seconds by which `iat` may be ahead, because the clock of the sender may be ahead.

The FAPI 2.0 Security Profile demands at least these (section 5.3.2.1, item 13).
"""


class Scheme(StrEnum):
    """The scheme with which a request presents its token (RFC 9110, section 11.1)."""

    BEARER = "Bearer"
    DPOP = "DPoP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """The proofs of a request besides its token."""

    dpop_proof: str | None = field(default=None, repr=False)
    """The value of the header `DPoP`; None: the request has none."""
    method: str = ""
    uri: str = ""
    certificate_thumbprint: str = ""
    """The `x5t#S256` of the client certificate; empty: the client presented none."""


NOTHING_PRESENTED: Final = Presented()


class PossessionChecker:
    """Checks proofs of possession. Any thread may call it; it does no I/O.

    It remembers the DPoP proofs that it accepted, so that each is accepted once in this process.
    """

    def __init__(
        self,
        *,
        max_age: float = MAX_PROOF_AGE,
        leeway: float = PROOF_LEEWAY,
        nonces: DpopNonces | None = None,
        replays: Replays | None = None,
        algorithms: Collection[Algorithm] = PUBLIC_KEY_ALGORITHMS,
    ) -> None:
        """Configure the checks. Times are in seconds.

        `nonces`: a proof needs a nonce of these; None: proofs need none. `replays`: the memory of accepted proofs; it
        must remember a proof for `max_age + 2 * leeway` seconds. `algorithms`: those that may sign proofs.
        """
        self.nonces = nonces
        self._max_age = max_age
        self._leeway = leeway
        self._algorithms = algorithms
        self._replays = replays if replays is not None else Replays(max_age + 2 * leeway)

    def check(
        self,
        confirmation: Confirmation,
        token: str,
        presented: Presented,
        *,
        scheme: Scheme | None,
        now: float,
        elapsed: float,
    ) -> None:
        """Raise `InvalidTokenError` unless the request proves the key that its token is bound to.

        `scheme` is that of the request; None: the token was presented in another way, and no scheme is demanded. `now` is
        the time of day, and `elapsed` the time of a clock that never jumps. A token that is bound to no key needs no
        proof. The reasons are PROOF_MISSING, PROOF_INVALID, PROOF_NONCE, WRONG_KEY, and WRONG_TYPE for the scheme `DPoP`
        with a token that is bound to no DPoP key. Raises `OverloadedError` if too many proofs are remembered.
        """
        if confirmation.is_unknown:
            raise _missing("a key in a way that can't be checked here: cnf has neither jkt nor x5t#S256")
        if scheme is Scheme.DPOP and not confirmation.jkt:
            raise InvalidTokenError(
                InvalidReason.WRONG_TYPE,
                "the token is not bound to a DPoP key; present it with the scheme Bearer",
            )
        if confirmation.x5t_s256:
            _check_certificate(confirmation.x5t_s256, presented.certificate_thumbprint)
        if confirmation.jkt:
            if scheme is Scheme.BEARER or presented.dpop_proof is None:
                raise _missing(
                    "a DPoP key: present it with the scheme DPoP and a DPoP proof (RFC 9449, section 7.1)"
                )
            proof = verify_proof(
                presented.dpop_proof,
                method=presented.method,
                uri=presented.uri,
                access_token=token,
                algorithms=self._algorithms,
            )
            if not hmac.compare_digest(proof.jkt.encode(), confirmation.jkt.encode("utf-8", "replace")):
                raise InvalidTokenError(
                    InvalidReason.WRONG_KEY, "the DPoP proof is of another key than the token is bound to"
                )
            self.accept(proof, now=now, elapsed=elapsed)

    def accept(self, proof: DpopProof, *, now: float, elapsed: float) -> None:
        """Accept a verified proof once.

        Raises `InvalidTokenError` with PROOF_INVALID for a proof that is too old, ahead of time, or used before, and with
        PROOF_NONCE without a current nonce where nonces are required. Raises `OverloadedError`.
        """
        check_age(proof, now, self._max_age, self._leeway)
        if self.nonces is not None and not (proof.nonce and self.nonces.accepts(proof.nonce, now)):
            raise InvalidTokenError(
                InvalidReason.PROOF_NONCE, "DPoP proof: the nonce is missing or not a current one"
            )
        if not self._replays.use(proof.jkt, proof.proof_id, elapsed):
            raise invalid_proof("jti was used before")


def check_age(
    proof: DpopProof, now: float, max_age: float = MAX_PROOF_AGE, leeway: float = PROOF_LEEWAY
) -> None:
    """Raise `InvalidTokenError` with PROOF_INVALID unless the proof was made in the last `max_age` seconds."""
    if not now - max_age - leeway <= proof.issue_time <= now + leeway:
        raise invalid_proof("iat is too long ago or ahead")


def _missing(what: str) -> InvalidTokenError:
    return InvalidTokenError(InvalidReason.PROOF_MISSING, f"the token is bound to {what}")


def _check_certificate(bound_to: str, thumbprint: str) -> None:
    if not thumbprint:
        raise _missing("a client certificate: present it over mutual TLS (RFC 8705, section 3)")
    if not hmac.compare_digest(thumbprint.encode("utf-8", "replace"), bound_to.encode("utf-8", "replace")):
        raise InvalidTokenError(
            InvalidReason.WRONG_KEY, "the client certificate is another one than the token is bound to"
        )

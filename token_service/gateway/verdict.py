"""Verdicts on requests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from token_service.client._internal.http_refusals import Refusal
from token_service.tokens.claims import VerifiedClaims


class Outcome(StrEnum):
    """The outcome of a check."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    """The gateway can't judge the token now."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a request."""

    outcome: Outcome
    reason: str
    """A label of metrics, of a bounded set."""
    claims: VerifiedClaims | None = None
    """The claims of the token; None: the request is refused or needs no token."""
    refusal: Refusal | None = None
    """The response to the client; None: the request passes."""
    nonce: str | None = None
    """The DPoP nonce for the next request; None: the client needs no new one."""


PUBLIC = Verdict(Outcome.ALLOWED, "public")
PREFLIGHT = Verdict(Outcome.ALLOWED, "preflight")


def refused(reason: str, refusal: Refusal) -> Verdict:
    """Return the verdict for a refused request."""
    return Verdict(Outcome.REFUSED, reason, refusal=refusal)


def unavailable(reason: str) -> Verdict:
    """Return the verdict for a request whose token can't be judged now."""
    return Verdict(Outcome.UNAVAILABLE, reason, refusal=_UNAVAILABLE)


_UNAVAILABLE = Refusal(503, (("retry-after", "1"),), "temporarily unavailable; retry later")

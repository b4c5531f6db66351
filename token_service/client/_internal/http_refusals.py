"""Refusals of HTTP requests: status, `WWW-Authenticate` and body (RFC 6750, 9449, 9470, 9728)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from token_service.client.requirements import Requirements
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidReason,
    InvalidTokenError,
    TokenServiceError,
)
from token_service.tokens.dpop import DPOP_ALGORITHMS

_RETRY_AFTER: Final = "1"
_LACKING: Final = frozenset({InvalidReason.INSUFFICIENT_SCOPE, InvalidReason.MISSING_ROLE})
_OF_PROOF: Final = {
    InvalidReason.PROOF_INVALID: "invalid_dpop_proof",
    InvalidReason.PROOF_NONCE: "use_dpop_nonce",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The response to a refused request. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    """A text for people. It tells strangers nothing about the service behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """Makes the refusals of one protected resource."""

    realm: str = ""
    resource_metadata: str = ""
    """The URL of the metadata of the resource (RFC 9728, section 5.1); empty: it has none."""
    accepts_dpop: bool = True

    def no_token(self, message: str = "an access token is needed", nonce: str | None = None) -> Refusal:
        """Return the refusal of a request without credentials. It has no error code (RFC 6750, section 3.1)."""
        return self._challenge(401, {}, message, nonce)

    def invalid_request(self, message: str) -> Refusal:
        """Return the refusal of a malformed request."""
        return self._challenge(400, {"error": "invalid_request", "error_description": message}, message, None)

    def unfit_claims(self, message: str) -> Refusal:
        """Return the refusal of a valid token that lacks claims, or has others, than the application needs."""
        return self._challenge(
            403, {"error": "insufficient_scope", "error_description": message}, message, None
        )

    def refusal(self, error: TokenServiceError, required: Requirements, nonce: str | None = None) -> Refusal:
        """Return the refusal for the error of a check.

        `nonce` is the current DPoP nonce; None: nonces are not required. An error that is not about the token is answered
        503, without its cause: the cause concerns operators, and they have the log and the metrics.
        """
        if isinstance(error, CallerUnauthenticatedError):
            return self.no_token(error.message, nonce)
        if not isinstance(error, InvalidTokenError):
            return Refusal(503, (("retry-after", _RETRY_AFTER),), "temporarily unavailable; retry later")
        said = {"error": "invalid_token", "error_description": error.message}
        status = 401
        if error.reason in _LACKING:
            said["error"], status = "insufficient_scope", 403
            if error.reason is InvalidReason.INSUFFICIENT_SCOPE:
                said["scope"] = " ".join(sorted(required.scopes))
        elif error.reason is InvalidReason.INSUFFICIENT_AUTHENTICATION:
            said["error"] = "insufficient_user_authentication"
            if required.acr_values:
                said["acr_values"] = " ".join(required.acr_values)
            if required.max_age is not None:
                said["max_age"] = str(int(required.max_age))
        elif error.reason in _OF_PROOF:
            said["error"] = _OF_PROOF[error.reason]
        return self._challenge(status, said, error.message, nonce)

    def _challenge(self, status: int, said: dict[str, str], text: str, nonce: str | None) -> Refusal:
        headers = [("www-authenticate", challenge) for challenge in self._challenges(said)]
        if nonce is not None:
            headers.append(("dpop-nonce", nonce))
        return Refusal(status, tuple(headers), text)

    def _challenges(self, said: dict[str, str]) -> Iterator[str]:
        common = {"realm": self.realm} if self.realm else {}
        if self.resource_metadata:
            common["resource_metadata"] = self.resource_metadata
        of_dpop = said.get("error") in _OF_PROOF.values()
        if not of_dpop:
            yield _challenge("Bearer", common | said)
        if self.accepts_dpop:
            yield _challenge("DPoP", common | said | {"algs": " ".join(DPOP_ALGORITHMS)})


def _challenge(scheme: str, parameters: dict[str, str]) -> str:
    return scheme + ",".join(f' {name}="{quotable(value)}"' for name, value in parameters.items())


def quotable(text: str) -> str:
    """Replace characters that a quoted string of a challenge may not contain (RFC 6750, section 3)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)

"""The flaws that a token may have, and the reason for which a validator must reject each."""

from __future__ import annotations

from enum import Enum

from token_service.errors import InvalidReason


class Flaw(Enum):
    """A flaw of an access token. The value is for people; `reason` is that of the rejection."""

    EXPIRED = "exp has passed"
    NOT_YET_VALID = "nbf is an hour ahead"
    ISSUED_AHEAD = "iat is an hour ahead"
    WRONG_ISSUER = "iss is another issuer"
    WRONG_AUDIENCE = "aud is another service"
    BAD_SIGNATURE = "the signature is of another text"
    OTHER_KEY = "another key signed, and kid names a key of the issuer"
    UNKNOWN_KEY = "kid is not in the key set"
    ALGORITHM_NONE = "alg is none, and there is no signature (RFC 8725, section 2.1)"
    SYMMETRIC = "HS256 with the public key as the secret (RFC 8725, section 2.1)"
    EMBEDDED_KEY = "the header carries its own key (RFC 8725, section 3.10)"
    CRITICAL_HEADER = "the header demands an extension (RFC 7515, section 4.1.11)"
    ID_TOKEN = "typ is that of an ID token"  # not a password
    NO_TYPE = "typ is missing"
    DUPLICATE_CLAIM = "sub is in the payload twice (RFC 8725, section 2.4)"
    NO_TOKEN_ID = "jti is missing (RFC 9068, section 2.2)"  # not a password
    NO_EXPIRY = "exp is missing"
    TEXT_AS_TIME = "exp is a text"
    NOT_A_TOKEN = "the text is not a JWS"  # not a password
    TOO_LARGE = "longer than 16 KiB"

    @property
    def reason(self) -> InvalidReason:
        """The reason with which a validator must reject the token."""
        return _REASONS.get(self, InvalidReason.MALFORMED)


_REASONS = {
    Flaw.EXPIRED: InvalidReason.EXPIRED,
    Flaw.NOT_YET_VALID: InvalidReason.NOT_YET_VALID,
    Flaw.ISSUED_AHEAD: InvalidReason.NOT_YET_VALID,
    Flaw.WRONG_ISSUER: InvalidReason.WRONG_ISSUER,
    Flaw.WRONG_AUDIENCE: InvalidReason.WRONG_AUDIENCE,
    Flaw.BAD_SIGNATURE: InvalidReason.BAD_SIGNATURE,
    Flaw.OTHER_KEY: InvalidReason.BAD_SIGNATURE,
    Flaw.UNKNOWN_KEY: InvalidReason.UNKNOWN_KEY,
    Flaw.ALGORITHM_NONE: InvalidReason.BAD_SIGNATURE,
    Flaw.SYMMETRIC: InvalidReason.BAD_SIGNATURE,
    Flaw.ID_TOKEN: InvalidReason.WRONG_TYPE,
    Flaw.NO_TYPE: InvalidReason.WRONG_TYPE,
    Flaw.TOO_LARGE: InvalidReason.TOO_LARGE,
}

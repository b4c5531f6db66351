"""Makes JWTs as the token service does, and flawed ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from token_service.testing.flaws import Flaw
from token_service.testing.signing import SigningKey, jws
from token_service.tokens import strict_json
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.base64url import decode, encode

TYPE_ACCESS: Final = "at+jwt"
TYPE_ID: Final = "JWT"
TYPE_TRANSACTION: Final = "txntoken+jwt"
_HOUR: Final = 3600
_OTHER_ISSUER: Final = "https://other-issuer.test"
_OTHER_AUDIENCE: Final = "https://other-service.test"

Claims = Mapping[str, Any]
_NONE: Final[Claims] = {}


class TokenMaker:
    """Makes tokens of one issuer. Any thread may call it.

    All times are seconds. `claims` add claims to a token or replace them; the value `...` removes one.
    """

    def __init__(
        self,
        issuer: str,
        *,
        algorithm: Algorithm | str = Algorithm.ES256,
        now: Callable[[], float] = time.time,
        revision: Callable[[], int] = lambda: 0,
    ) -> None:
        """Generate a key. `now` is the wall clock; `revision` returns the head of the revocation log (`rev`)."""
        self.issuer = issuer
        self.algorithm = Algorithm(algorithm)
        self.keys = [SigningKey(self.algorithm)]
        self._now = now
        self._revision = revision

    @property
    def key(self) -> SigningKey:
        """The key that signs."""
        return self.keys[-1]

    @property
    def jwks(self) -> list[dict[str, Any]]:
        """The public keys (RFC 7517)."""
        return [key.jwk for key in self.keys]

    def rotate(self) -> None:
        """Sign with a new key. Tokens of the earlier keys stay valid."""
        self.keys = [*self.keys, SigningKey(self.algorithm)]

    def access_token(
        self,
        *,
        subject: str = "alice",
        client_id: str = "web",
        audience: Sequence[str] = ("api",),
        scopes: Sequence[str] = (),
        session_id: str = "",
        lifetime: float = 300,
        claims: Claims = _NONE,
    ) -> str:
        """Return an access token (RFC 9068)."""
        return self._signed(
            TYPE_ACCESS,
            {
                "iss": self.issuer,
                "sub": subject,
                "aud": _one_or_more(audience),
                **self._times(lifetime),
                "jti": _new_id(),
                "client_id": client_id,
                "rev": self._revision(),
                "scope": " ".join(scopes) if scopes else ...,
                "sid": session_id or ...,
                **claims,
            },
        )

    def id_token(
        self,
        *,
        subject: str = "alice",
        client_id: str = "web",
        nonce: str = "",
        session_id: str = "",
        lifetime: float = 300,
        claims: Claims = _NONE,
    ) -> str:
        """Return an ID token (OpenID Connect Core 1.0, section 2)."""
        return self._signed(
            TYPE_ID,
            {
                "iss": self.issuer,
                "sub": subject,
                "aud": client_id,
                "azp": client_id,
                **self._times(lifetime),
                "nbf": ...,
                "jti": _new_id(),
                "rev": self._revision(),
                "nonce": nonce or ...,
                "sid": session_id or ...,
                **claims,
            },
        )

    def transaction_token(
        self,
        *,
        subject: str = "alice",
        client_id: str = "gateway",
        trust_domain: str = "shop.test",
        scopes: Sequence[str] = ("orders",),
        session_id: str = "",
        lifetime: float = 60,
        claims: Claims = _NONE,
    ) -> str:
        """Return a transaction token (draft-ietf-oauth-transaction-tokens, section 8)."""
        return self._signed(
            TYPE_TRANSACTION,
            {
                "iss": self.issuer,
                "sub": subject,
                "aud": trust_domain,
                **self._times(lifetime),
                "nbf": ...,
                "txn": _new_id(),
                "req_wl": client_id,
                "rev": self._revision(),
                "scope": " ".join(scopes),
                "sid": session_id or ...,
                **claims,
            },
        )

    def flawed_token(self, flaw: Flaw, *, audience: Sequence[str] = ("api",), claims: Claims = _NONE) -> str:
        """Return an access token with one flaw and nothing else wrong. A validator must reject it with `flaw.reason`."""
        now = int(self._now())
        changes: dict[Flaw, dict[str, Any]] = {
            Flaw.EXPIRED: {"iat": now - _HOUR, "nbf": now - _HOUR, "exp": now - 1},
            Flaw.NOT_YET_VALID: {"nbf": now + _HOUR, "exp": now + 2 * _HOUR},
            Flaw.ISSUED_AHEAD: {"iat": now + _HOUR, "exp": now + 2 * _HOUR},
            Flaw.WRONG_ISSUER: {"iss": _OTHER_ISSUER},
            Flaw.WRONG_AUDIENCE: {"aud": _OTHER_AUDIENCE},
            Flaw.NO_TOKEN_ID: {"jti": ...},
            Flaw.NO_EXPIRY: {"exp": ...},
            Flaw.TEXT_AS_TIME: {"exp": str(now + _HOUR)},
            Flaw.TOO_LARGE: {"padding": "x" * 17_000},
        }
        if flaw is Flaw.NOT_A_TOKEN:
            return "not-a-token"
        token = self.access_token(audience=audience, claims={**claims, **changes.get(flaw, {})})
        return token if flaw in changes else self._broken(flaw, token)

    def _broken(self, flaw: Flaw, token: str) -> str:
        """Return a good token with another header, payload or signature."""
        payload = _payload(token)
        header: dict[str, Any] = {"alg": self.algorithm.value, "typ": TYPE_ACCESS, "kid": self.key.key_id}
        key: SigningKey | bytes | None = self.key
        if flaw is Flaw.BAD_SIGNATURE:
            other = jws(header, payload + b" ", key)
            return token.rpartition(".")[0] + "." + other.rpartition(".")[2]
        if flaw is Flaw.OTHER_KEY:
            key = SigningKey(self.algorithm)
        elif flaw is Flaw.UNKNOWN_KEY:
            key = SigningKey(self.algorithm)
            header["kid"] = key.key_id
        elif flaw is Flaw.ALGORITHM_NONE:
            header["alg"], key = "none", None
        elif flaw is Flaw.SYMMETRIC:
            header["alg"], key = "HS256", strict_json.encode(self.key.jwk)
        elif flaw is Flaw.EMBEDDED_KEY:
            key = SigningKey(self.algorithm)
            header["jwk"] = key.jwk
        elif flaw is Flaw.CRITICAL_HEADER:
            header |= {"crit": ["exp"], "exp": 0}
        elif flaw is Flaw.ID_TOKEN:
            header["typ"] = TYPE_ID
        elif flaw is Flaw.NO_TYPE:
            del header["typ"]
        elif flaw is Flaw.DUPLICATE_CLAIM:
            payload = b'{"sub":"mallory",' + payload[1:]
        return jws(header, payload, key)

    def _times(self, lifetime: float) -> dict[str, Any]:
        now = self._now()
        return {"exp": int(now + lifetime), "iat": int(now), "nbf": int(now)}

    def _signed(self, typ: str, claims: dict[str, Any]) -> str:
        payload = strict_json.encode({name: value for name, value in claims.items() if value is not ...})
        header = {"alg": self.algorithm.value, "typ": typ, "kid": self.key.key_id}
        return jws(header, payload, self.key)


def _one_or_more(audience: Sequence[str]) -> str | list[str]:
    if isinstance(audience, str):
        return audience
    return audience[0] if len(audience) == 1 else list(audience)


def _new_id() -> str:
    return encode(secrets.token_bytes(16))


def _payload(token: str) -> bytes:
    return decode(token.split(".")[1].encode())

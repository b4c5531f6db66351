"""What a verified token says (RFC 7519, RFC 9068, OpenID Connect Core 1.0).

All times are NumericDates: seconds since the Unix epoch, UTC (RFC 7519, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from typing import Annotated, Any, Final, TypeAlias, final

import msgspec

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.fingerprint_set import Mark, mark_of

MAX_NUMERIC_DATE: Final = 253402300799
"""The last second of the year 9999; a number beyond it is no time."""

MAX_ACCESS_TOKEN_TTL: Final = 3600
"""Seconds. No JWT issued here lives longer, whatever the policy says, so a revocation may be forgotten after
it.
"""

RESERVED_CLAIMS: Final = frozenset(
    "iss sub aud exp nbf iat jti client_id scope scp sid auth_ctx cnf rev "
    "nonce at_hash c_hash s_hash auth_time acr amr azp act may_act events token_use typ".split()
)
"""Claims the service sets itself, or whose meaning others rely on: never taken from a request."""


class TokenKind(IntEnum):
    """The kinds of token, numbered as `TokenType` in `token.proto`."""

    ACCESS = 1
    REFRESH = 2
    ID = 3
    SESSION = 4


@dataclass(frozen=True, slots=True)
class AuthContext:
    """How the subject was authenticated."""

    acr: str = ""
    amr: tuple[str, ...] = ()
    auth_time: int | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The key a token is bound to (RFC 7800): a DPoP key's `jkt` or a certificate's `x5t#S256`. Both empty: a bearer."""

    jkt: str = ""
    x5t_s256: str = ""

    def __bool__(self) -> bool:
        return bool(self.jkt or self.x5t_s256)


_SEAL: Final = object()

_Date: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMERIC_DATE)]


class _Payload(msgspec.Struct, gc=False):
    """The types of the claims that are checked; all others may be anything."""

    iss: str
    sub: str
    exp: _Date
    iat: _Date
    aud: str | list[str]
    nbf: _Date = 0
    jti: str = ""
    sid: str = ""
    scope: str = ""
    client_id: str = ""
    azp: str = ""
    rev: Annotated[int, msgspec.Meta(ge=0)] | None = None


_convert = msgspec.convert


@final
class VerifiedClaims:
    """Claims of a JWT whose signature was verified. Only a `Verifier` can make one.

    The attributes are what every check needs; `auth_context`, `confirmation` and `custom_claims` are read
    from the payload when they are asked for.
    """

    __slots__ = (
        "_session_mark",
        "_token_mark",
        "audience",
        "client_id",
        "expire_time",
        "issue_time",
        "issuer",
        "key_id",
        "kind",
        "not_before",
        "payload",
        "revision",
        "scopes",
        "session_id",
        "subject",
        "token_id",
    )

    kind: TokenKind
    issuer: str
    subject: str
    client_id: str
    audience: tuple[str, ...]
    scopes: frozenset[str]
    token_id: str
    session_id: str
    key_id: str
    issue_time: int
    """`iat`."""
    not_before: int
    """`nbf`; 0 if the token has none."""
    expire_time: int
    """`exp`."""
    revision: int | None
    """`rev`: the revocation sequence the issuer had seen; None in a token of another issuer."""
    payload: Mapping[str, Any]
    """All claims, as they were signed."""

    def __init__(
        self,
        seal: object,
        payload: dict[str, Any],
        kind: TokenKind,
        key_id: str,
        profiled: bool,  # noqa: FBT001  # a keyword costs a tenth of a microsecond, and one caller knows
    ) -> None:
        """Raises `InvalidTokenError(MALFORMED)` if a claim has the wrong type or a required one is missing.

        `profiled`: the token says it follows RFC 9068, so it must have what section 2.2 demands.
        """
        if seal is not _SEAL:
            raise TypeError("VerifiedClaims are made by a Verifier only")
        try:
            typed = _convert(payload, _Payload)
        except msgspec.ValidationError as error:
            raise malformed(str(error)) from None  # names the claim and the types, never a value
        self.kind = kind
        self.key_id = key_id
        self.payload = payload
        self.issuer = typed.iss
        self.subject = typed.sub
        self.expire_time = typed.exp
        self.issue_time = typed.iat
        self.not_before = typed.nbf
        self.token_id = typed.jti
        self.session_id = typed.sid
        audience = typed.aud
        self.audience = (audience,) if type(audience) is str else tuple(audience)
        scope = typed.scope
        self.scopes = _scopes(scope) if len(scope) <= _SHORT_SCOPE else frozenset(scope.split(" "))
        self.client_id = typed.client_id or typed.azp
        if profiled and not (typed.client_id and typed.jti):
            raise malformed("client_id or jti is missing")
        self.revision = typed.rev
        self._token_mark: Mark | None = None
        self._session_mark: Mark | None = None

    @property
    def token_mark(self) -> Mark:
        """The mark of `jti`."""
        mark = self._token_mark
        if mark is None:
            mark = self._token_mark = mark_of(self.token_id)
        return mark

    @property
    def session_mark(self) -> Mark:
        """The mark of `sid`."""
        mark = self._session_mark
        if mark is None:
            mark = self._session_mark = mark_of(self.session_id)
        return mark

    @property
    def auth_context(self) -> AuthContext | None:
        """How the subject was authenticated; None if the token does not say."""
        source = self.payload.get("auth_ctx") if self.kind is TokenKind.ACCESS else self.payload
        if not isinstance(source, dict):
            return None
        acr, amr, auth_time = source.get("acr", ""), source.get("amr", []), source.get("auth_time")
        context = AuthContext(
            acr if isinstance(acr, str) else "",
            tuple(a for a in amr if isinstance(a, str)) if isinstance(amr, list) else (),
            auth_time if type(auth_time) is int else None,
        )
        return context if context != _NO_AUTH_CONTEXT else None

    @property
    def confirmation(self) -> Confirmation:
        """The key the token is bound to."""
        cnf = self.payload.get("cnf")
        if not isinstance(cnf, dict):
            return _BEARER
        jkt, x5t = cnf.get("jkt", ""), cnf.get("x5t#S256", "")
        return Confirmation(jkt if isinstance(jkt, str) else "", x5t if isinstance(x5t, str) else "")

    @property
    def custom_claims(self) -> dict[str, Any]:
        """Every claim whose name is not reserved."""
        return {name: value for name, value in self.payload.items() if name not in RESERVED_CLAIMS}

    def __repr__(self) -> str:
        return f"<VerifiedClaims {self.kind.name} jti={self.token_id!r} sub={self.subject!r} exp={self.expire_time}>"


seal_claims: Final = partial(VerifiedClaims, _SEAL)
"""`seal_claims(payload, kind, key_id, profiled)`: claims of a payload whose signature the caller has
verified. For `Verifier` alone.
"""


def malformed(message: str) -> InvalidTokenError:
    """The error for a token that breaks the rules of its format."""
    return InvalidTokenError(InvalidReason.MALFORMED, message)


_SHORT_SCOPE: Final = 256


@lru_cache(maxsize=4096)
def _scopes(scope: str) -> frozenset[str]:
    """Few texts stand in very many tokens."""
    return frozenset(scope.split(" ")) if scope else frozenset()


_BEARER: Final = Confirmation()
_NO_AUTH_CONTEXT: Final = AuthContext()

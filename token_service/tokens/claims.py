"""The claims of a verified token (RFC 7519, RFC 9068, OpenID Connect Core 1.0).

All times are NumericDates: seconds since the Unix epoch, UTC (RFC 7519, section 2). A whole number becomes an `int`
in every notation (also `1.7e9`). A number with a fraction becomes a `float`. The token service itself issues whole
numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias, TypeVar, final

import msgspec

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.fingerprint_set import Mark, mark_of
from token_service.tokens.strict_json import decode_object, encode

MAX_NUMERIC_DATE: Final = 253402300799
"""The last second of the year 9999. A larger number is not accepted as a time."""

MAX_ACCESS_TOKEN_TTL: Final = 3600
"""The longest lifetime of a JWT of the token service, in seconds; a policy can't exceed it.

A revocation may be forgotten after this time.
"""

SEALED_SUBJECT: Final = "sealed_sub"
"""The claim with the encrypted subject of an ID token whose `sub` is pairwise."""

RESERVED_CLAIMS: Final = frozenset(
    "iss sub aud exp nbf iat jti client_id scope scp sid auth_ctx cnf rev "
    "nonce at_hash c_hash s_hash auth_time acr amr azp act may_act events token_use typ".split()
) | {SEALED_SUBJECT}
"""Claims that are never taken from a request: the token service sets them, or recipients rely on their meaning."""


class TokenKind(IntEnum):
    """The kinds of token, numbered as `TokenType` in `token.proto`."""

    ACCESS = 1
    REFRESH = 2
    ID = 3
    SESSION = 4
    TRANSACTION = 5
    PERSONAL_ACCESS = 6


@dataclass(frozen=True, slots=True)
class AuthContext:
    """The authentication of the subject."""

    acr: str = ""
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    """A NumericDate in whole seconds. A fraction is cut off, so the time is never later than in the token."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The key a token is bound to (RFC 7800): the `jkt` of a DPoP key or the `x5t#S256` of a certificate.

    Both are empty for a bearer token.
    """

    jkt: str = ""
    x5t_s256: str = ""
    is_unknown: bool = False
    """The token of another issuer is bound in a way that this package can't check."""

    def __bool__(self) -> bool:
        return bool(self.jkt or self.x5t_s256 or self.is_unknown)


@final
class _Seal:
    """The proof that `VerifiedClaims` come from this module. It is a class, so copies of claims keep the same seal."""


_InRange: Final = msgspec.Meta(ge=0, le=MAX_NUMERIC_DATE)
_WholeDate: TypeAlias = Annotated[int, _InRange]
_Date: TypeAlias = _WholeDate | Annotated[float, _InRange]


class _Payload(msgspec.Struct, gc=False):
    """The types of the checked claims. All other claims may have any type."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: _Date
    iat: _Date
    nbf: _Date = 0
    jti: str = ""
    client_id: str = ""
    rev: Annotated[int, msgspec.Meta(ge=0)] | None = None
    scope: str = ""
    sid: str = ""
    azp: str = ""


class _UsualPayload(_Payload, gc=False, omit_defaults=True):
    """The claims of an access token in the order the token service writes them. Custom claims follow them."""

    exp: _WholeDate  # a redefined field keeps its place in the order
    iat: _WholeDate
    nbf: _WholeDate = 0
    auth_ctx: dict[str, str | int | list[str]] | msgspec.UnsetType = msgspec.UNSET
    cnf: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class _TransactionPayload(_Payload, gc=False, kw_only=True):
    """The claims of a transaction token, whose form requires other names for the token and the client."""

    txn: Annotated[str, msgspec.Meta(min_length=1)]
    req_wl: Annotated[str, msgspec.Meta(min_length=1)]
    scope: str


_TRANSACTION_NAMES: Final = frozenset({"txn", "req_wl"})
"""Claims of a transaction token that are attributes of `VerifiedClaims`. Other kinds may use these names freely."""
_AnyPayload = TypeVar("_AnyPayload", bound=_Payload)
_USUAL_NAMES: Final = frozenset(_UsualPayload.__struct_fields__)
_decode_usual = msgspec.json.Decoder(_UsualPayload).decode
_convert = msgspec.convert


@final
class VerifiedClaims(msgspec.Struct, gc=False, eq=False):
    """The claims of a JWT whose signature was verified. Only a `Verifier` can make them.

    The attributes are the claims that every check needs. `auth_context`, `confirmation` and `custom_claims` are read
    from the payload on access.
    """

    # The claims are part of no reference cycle, so the garbage collector need not scan the thousands of them that a
    # validator keeps.

    _seal: type[_Seal]
    kind: TokenKind
    key_id: str
    _encoded: bytes
    issuer: str
    subject: str
    client_id: str
    """`client_id` or `azp`, or `req_wl` of a transaction token."""
    audience: tuple[str, ...]
    scopes: frozenset[str]
    token_id: str
    """`jti`, or `txn` of a transaction token."""
    session_id: str
    issue_time: int | float
    """`iat`."""
    not_before: int | float
    """`nbf`; 0 if the token has none."""
    expire_time: int | float
    """`exp`."""
    revision: int | None
    """`rev`: the seen sequence of the token; None in a token of another issuer."""
    _is_plain: bool = False
    """Whether the payload is that of a bearer token without any claim besides the attributes above."""
    _payload: Mapping[str, Any] | None = None
    _token_mark: Mark | None = None
    _session_mark: Mark | None = None
    _confirmation: Confirmation | None = None

    def __post_init__(self) -> None:
        if self._seal is not _Seal:
            raise TypeError("VerifiedClaims are made by a Verifier only")

    @property
    def payload(self) -> Mapping[str, Any]:
        """All claims, as signed."""
        payload = self._payload
        if payload is None:
            payload = self._payload = decode_object(self._encoded)
        return payload

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
        """The authentication of the subject; None if the token does not describe it."""
        if self._is_plain:
            return None
        source = self.payload if self.kind is TokenKind.ID else self.payload.get("auth_ctx")
        if not isinstance(source, dict):
            return None
        acr, amr, auth_time = source.get("acr", ""), source.get("amr", []), source.get("auth_time", -1)
        context = AuthContext(
            acr if isinstance(acr, str) else "",
            tuple(a for a in amr if isinstance(a, str)) if isinstance(amr, list) else (),
            int(auth_time)
            if type(auth_time) in {int, float} and 0 <= auth_time <= MAX_NUMERIC_DATE
            else None,
        )
        return context if context != _NO_AUTH_CONTEXT else None

    @property
    def confirmation(self) -> Confirmation:
        """The key the token is bound to; empty for a bearer token."""
        confirmation = self._confirmation
        if confirmation is None:
            confirmation = self._confirmation = self._read_confirmation()
        return confirmation

    def _read_confirmation(self) -> Confirmation:
        if self._is_plain:
            return _BEARER
        # Most tokens are bearer tokens, and to decode one takes ten times as long as this search. Only an escape can spell
        # the name in another way.
        if self._payload is None and b"cnf" not in self._encoded and b"\\" not in self._encoded:
            return _BEARER
        payload = self.payload
        if "cnf" not in payload:
            return _BEARER
        cnf = payload["cnf"]
        texts = cnf if isinstance(cnf, dict) else {}
        jkt, x5t = texts.get("jkt"), texts.get("x5t#S256")
        jkt, x5t = jkt if isinstance(jkt, str) else "", x5t if isinstance(x5t, str) else ""
        return Confirmation(jkt, x5t, is_unknown=not (jkt or x5t))

    @property
    def actor(self) -> dict[str, Any] | None:
        """`act` (RFC 8693, section 4.1): who acts for the subject; None: the subject itself.

        `sub` names the actor. A nested `act` names the one that acted before.
        """
        act = None if self._is_plain else self.payload.get("act")
        return act if isinstance(act, dict) else None

    @property
    def custom_claims(self) -> dict[str, Any]:
        """Every claim whose name is not reserved."""
        if self._is_plain:
            return {}
        names = RESERVED_CLAIMS
        if self.kind is TokenKind.TRANSACTION:
            names |= _TRANSACTION_NAMES
        return {name: value for name, value in self.payload.items() if name not in names}

    def __repr__(self) -> str:
        return f"<VerifiedClaims {self.kind.name} jti={self.token_id!r} sub={self.subject!r} exp={self.expire_time}>"


def seal_claims(
    data: bytes,
    kind: TokenKind,
    key_id: str,
    profiled: bool,  # noqa: FBT001  # a keyword costs a tenth of a microsecond; the one caller passes it by position
) -> VerifiedClaims:
    """Return the claims of a payload whose signature is verified. Only `Verifier` may call this function.

    `profiled` means that the `typ` of the token promises RFC 9068, so the claims of its section 2.2 are required.
    Raises `InvalidTokenError(MALFORMED)` if the payload is not one JSON object, a claim has the wrong type or a
    required claim is missing.
    """
    typed, is_plain = _usual(data) if profiled else (None, False)
    if typed is None:
        typed = _transaction(data) if kind is TokenKind.TRANSACTION else _typed(data, _Payload)
    client_id, audience, scope = typed.client_id, typed.aud, typed.scope
    if profiled and not (client_id and typed.jti):
        raise malformed("client_id or jti is missing")
    return VerifiedClaims(  # by position: names would double the time
        _Seal,
        kind,
        key_id,
        data,
        typed.iss,
        typed.sub,
        client_id or typed.azp,
        (audience,) if type(audience) is str else tuple(audience),
        _scopes(scope) if len(scope) <= _SHORT_SCOPE else frozenset(scope.split(" ")),
        typed.jti,
        typed.sid,
        typed.iat,
        typed.nbf,
        typed.exp,
        typed.rev,
        is_plain,
    )


def _usual(data: bytes) -> tuple[_Payload | None, bool]:
    """Return the claims in `data` if the token service would write the same bytes, else None, and whether they are plain.

    If encoding the claims again gives the same bytes, no other parser can read them differently, e.g. because of a
    duplicate name. This check takes half the time of `_typed`, which decides all other cases.
    """
    try:
        typed = _decode_usual(data)
        written = encode(typed)
        if written == data:
            return typed, typed.auth_ctx is msgspec.UNSET and typed.cnf is msgspec.UNSET
        end = len(written) - 1
        if data.startswith(written[:end]) and data[end : end + 1] == b",":
            custom = decode_object(b"{" + data[end + 1 :])
            return (typed if _USUAL_NAMES.isdisjoint(custom) else None), False
    except (ValueError, RecursionError):
        pass
    return None, False


def _transaction(data: bytes) -> _Payload:
    typed = _typed(data, _TransactionPayload)
    typed.jti, typed.client_id = typed.txn, typed.req_wl
    return typed


def _typed(data: bytes, shape: type[_AnyPayload]) -> _AnyPayload:
    try:
        typed = _convert(decode_object(data), shape)
    except msgspec.ValidationError as error:
        raise malformed(str(error)) from None  # the message names the claim and the types, never a value
    except ValueError:
        raise malformed("the payload is not a JSON object") from None
    typed.exp, typed.iat, typed.nbf = _whole(typed.exp), _whole(typed.iat), _whole(typed.nbf)
    return typed


def _whole(date: float) -> int | float:
    """Return an `int` if the date has no fraction, else the date itself."""
    return int(date) if date == int(date) else date


def malformed(message: str) -> InvalidTokenError:
    """Return the error for a token that breaks the rules of its format."""
    return InvalidTokenError(InvalidReason.MALFORMED, message)


_SHORT_SCOPE: Final = 256


@lru_cache(maxsize=4096)
def _scopes(scope: str) -> frozenset[str]:
    """Return the scopes of a text. The result is cached, because most tokens share few texts."""
    return frozenset(scope.split(" ")) if scope else frozenset()


_BEARER: Final = Confirmation()
_NO_AUTH_CONTEXT: Final = AuthContext()

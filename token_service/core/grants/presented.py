"""Tokens that a client presents in a token exchange, judged and read (RFC 8693, section 2.1).

A subject token of another kind needs one reader: `PresentedTokens` takes it by the identifier of its type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.clients.client import Client
from token_service.core.revocation.replica import Replica
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import (
    BindingRequiredError,
    InvalidRequestError,
    SubjectTokenInvalidError,
    WrongKeyError,
)
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind, VerifiedClaims

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
TRANSACTION_TOKEN: Final = "urn:ietf:params:oauth:token-type:txn_token"

_SUBJECTS: Final[Mapping[str, TokenKind]] = MappingProxyType(
    {ACCESS_TOKEN: TokenKind.ACCESS, JWT: TokenKind.ACCESS, TRANSACTION_TOKEN: TokenKind.TRANSACTION}
)
_ACTORS: Final[Mapping[str, TokenKind]] = MappingProxyType(
    {ACCESS_TOKEN: TokenKind.ACCESS, JWT: TokenKind.ACCESS}
)


class PresentedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is valid, and what a token that comes of it may have."""

    kind: TokenKind
    token_id: str
    subject: str
    client_id: str
    """The client that the token belongs to. Another client needs a right to exchange it."""
    audience: tuple[str, ...]
    scopes: frozenset[str]
    session_id: str = ""
    expire_time: float
    """A NumericDate."""
    revision: int
    """The last entry of the revocation log that the verdict includes."""
    auth_context: AuthContext | None = None
    actor: Mapping[str, Any] | None = None
    may_act: Any = None
    """The only actor that may act for the subject (RFC 8693, section 4.4); None: any."""
    confirmation: Confirmation = Confirmation()
    """The key that the token is bound to, and that the client has proved; empty: it is a bearer token."""
    claims: Mapping[str, Any] = {}
    """All claims without a meaning for the token service."""

    def __repr__(self) -> str:
        return f"<PresentedToken {self.kind.name} {self.token_id!r}>"


ReadToken: TypeAlias = Callable[[str, Client], Awaitable[PresentedToken]]
"""`read(token, client)` judges a token that `client` presents.

The coroutine must not be suspended between the verdict and its end, so that `revision` includes no entry that the verdict
lacks. It raises `SubjectTokenInvalidError`.
"""


class PresentedTokens:
    """Judges presented tokens."""

    def __init__(
        self,
        introspector: Introspector,
        replica: Replica,
        readers: Mapping[str, ReadToken] = MappingProxyType({}),
    ) -> None:
        """`readers`: of further subject tokens, by the identifier of their type."""
        self._introspector = introspector
        self._replica = replica
        self._readers = readers

    async def subject(
        self, token: str, token_type: str, client: Client, keys: ProvedKeys = NO_KEYS
    ) -> PresentedToken:
        """Return the subject token. It includes every revocation that was acknowledged before the call, on any node.

        `keys`: those that the client proves. A bound token needs a proof of its key.

        Raises `InvalidRequestError` for an unknown type, `SubjectTokenInvalidError`, `StoreUnavailableError`,
        `ReplicaStaleError`.
        """
        read = self._readers.get(token_type)
        if read is not None:
            return await read(token, client)
        kind = _SUBJECTS.get(token_type)
        if kind is None:
            raise _unknown_type("subject_token_type", (*_SUBJECTS, *self._readers))
        return await self._own(token, kind, "subject_token", keys)

    async def actor(self, token: str, token_type: str, keys: ProvedKeys = NO_KEYS) -> PresentedToken:
        """Return the actor token, an access token. Raises the errors of `subject`."""
        kind = _ACTORS.get(token_type)
        if kind is None:
            raise _unknown_type("actor_token_type", tuple(_ACTORS))
        return await self._own(token, kind, "actor_token", keys)

    async def _own(self, token: str, kind: TokenKind, parameter: str, keys: ProvedKeys) -> PresentedToken:
        query = TokenQuery(token, kind=kind, strong=True, caller_checks_binding=True)
        answer = await self._introspector.validate(Caller.system(), query)
        # No await between the verdict and this: see `ReadToken`.
        revision = self._replica.applied
        claims = answer.claims
        if answer.reason is not None:
            raise not_accepted(parameter, answer.reason.value, f"the token is {answer.reason.value}")
        assert isinstance(claims, VerifiedClaims)
        try:
            keys.require(claims.confirmation, "the token")
        except (BindingRequiredError, WrongKeyError) as error:
            raise not_accepted(parameter, "BOUND", error.message) from None
        return PresentedToken(
            kind=kind,
            token_id=claims.token_id,
            subject=claims.subject,
            client_id=claims.client_id,
            audience=claims.audience,
            scopes=claims.scopes,
            session_id=claims.session_id,
            expire_time=claims.expire_time,
            revision=revision,
            auth_context=claims.auth_context,
            actor=claims.actor,
            may_act=claims.payload.get("may_act"),
            confirmation=claims.confirmation,
            claims=claims.custom_claims,
        )


def not_accepted(parameter: str, cause: str, message: str) -> SubjectTokenInvalidError:
    """Return the error for a presented token."""
    return SubjectTokenInvalidError(
        f"{parameter}: {message}", metadata={"parameter": parameter, "cause": cause}
    )


def _unknown_type(field: str, known: tuple[str, ...]) -> InvalidRequestError:
    return InvalidRequestError.of(field, f"must be one of {', '.join(known)}")

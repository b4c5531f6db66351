"""Requests and responses of issuing and refreshing.

They are created for each call, so they are msgspec structs, which take a fifth of the time of a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind

ISSUABLE: Final = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID, TokenKind.SESSION})
"""The kinds that IssueToken issues."""
DEFAULT_KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


_BEARER: Final = Confirmation()


class SingleUse(msgspec.Struct, frozen=True):
    """A grant that can open one session only. The session keeps the digest, so exactly one can have it."""

    digest: bytes
    """SHA-256, 32 bytes."""
    revision: int
    """The head of the revocation log when the grant was made. A later revocation of its subject ends the grant."""


class GrantUsedError(Exception):
    """A session exists for the grant already, or its subject was revoked since the grant was made."""

    def __init__(self, message: str, session_id: str, *, is_revoked: bool = False) -> None:
        """`is_revoked`: the grant has just opened the session, after a revocation of its subject or client."""
        super().__init__(message)
        self.session_id = session_id
        self.is_revoked = is_revoked


class IssueCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A request to issue tokens. Lifetimes are in seconds; None: the policy's."""

    subject: str
    client_id: str
    audience: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    kinds: frozenset[TokenKind] = DEFAULT_KINDS
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    device_id: str = ""
    access_token_ttl: float | None = None
    refresh_token_ttl: float | None = None
    confirmation: Confirmation = _BEARER
    nonce: str = ""
    request_id: str = ""
    client_context: Origin = NO_ORIGIN
    access_token_audience: tuple[str, ...] = ()
    """A part of the audience, for the access token of this response only. Empty: all of it."""
    single_use: SingleUse | None = None
    """The grant of the session. A session is then opened even without a refresh or session token."""
    session_id: str = ""
    """The session that tokens belong to that open none: they end with it."""
    revision: int | None = None
    """The seen sequence of the tokens, at which their grant was judged: a later revocation revokes them. None: the newest."""
    identity_claims: Mapping[str, Any] = {}
    """Claims about the subject for the userinfo endpoint. The session keeps them; no token has them."""
    upstream: str = ""
    upstream_session: str = ""
    """The upstream that authenticated the subject, and its session there."""
    audit_fields: Mapping[str, Any] = {}
    """Further fields of the audit event, such as the grant type."""


class RefreshCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A request to exchange a refresh token. Empty scopes and audience: the session's."""

    refresh_token: str
    client_id: str
    device_id: str = ""
    scopes: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    client_context: Origin = NO_ORIGIN
    keys: ProvedKeys = NO_KEYS
    """The keys that the holder of the refresh token proves. They must include the one of a bound session."""
    confirmation: Confirmation = _BEARER
    """The key of the new access token, if the session is bound to none."""

    def __repr__(self) -> str:
        return f"<RefreshCommand client_id={self.client_id!r}>"


class IssuedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens for a client. An empty text or None marks a token that was not issued. Times are NumericDates."""

    access_token: str = ""
    token_type: str = ""
    """`Bearer` or `DPoP` (RFC 6749, section 7.1; RFC 9449, section 5)."""
    access_token_expire_time: float | None = None
    refresh_token: str = ""
    refresh_token_expire_time: float | None = None
    session_expire_time: float | None = None
    """The time at which the session of the refresh token ends, used or not."""
    id_token: str = ""
    session_token: str = ""
    session_id: str = ""
    token_id: str = ""
    scopes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<IssuedTokens session_id={self.session_id!r} token_id={self.token_id!r}>"

"""What is asked of the issuer, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from token_service.tokens.claims import AuthContext, Confirmation, TokenKind

DEFAULT_KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


@dataclass(frozen=True, slots=True)
class ClientContext:
    """Where the end user's request came from, for the audit log."""

    ip_address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCommand:
    """Issue tokens. Spans in seconds; None: the policy's."""

    subject: str
    client_id: str
    audience: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    kinds: frozenset[TokenKind] = DEFAULT_KINDS
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = field(default_factory=dict)
    device_id: str = ""
    access_token_ttl: float | None = None
    refresh_token_ttl: float | None = None
    confirmation: Confirmation = field(default_factory=Confirmation)
    nonce: str = ""
    request_id: str = ""
    client_context: ClientContext = field(default_factory=ClientContext)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshCommand:
    """Exchange a refresh token. Empty scopes and audience: the session's."""

    refresh_token: str = field(repr=False)
    client_id: str
    device_id: str = ""
    scopes: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    client_context: ClientContext = field(default_factory=ClientContext)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedTokens:
    """Tokens for a client. Empty texts and None stand for what was not issued. Times are NumericDates."""

    access_token: str = field(default="", repr=False)
    token_type: str = ""
    """`Bearer` or `DPoP` (RFC 6749, section 7.1; RFC 9449, section 5)."""
    access_token_expire_time: float | None = None
    refresh_token: str = field(default="", repr=False)
    refresh_token_expire_time: float | None = None
    id_token: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    session_id: str = ""
    token_id: str = ""
    scopes: tuple[str, ...] = ()

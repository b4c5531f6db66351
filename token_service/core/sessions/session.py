"""A session: one login of a subject through a client, or a personal access token. Defines its row and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import UUID

from token_service.tokens.claims import AuthContext, Confirmation
from token_service.tokens.revocation import RevocationReason


class SessionState(Enum):
    """Whether a session can be used."""

    ACTIVE = "active"
    IDLE = "idle"
    """The session was unused for longer than its idle timeout."""
    EXPIRED = "expired"
    """The absolute expiry has passed."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A row of the session table. Times are NumericDates (seconds since the epoch, UTC, microsecond precision)."""

    id: UUID
    subject: str
    client_id: str
    device_id: str = ""
    """The device a refresh must name; empty: any."""
    scopes: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    auth_context: AuthContext | None = None
    confirmation: Confirmation = field(default_factory=Confirmation)
    custom_claims: Mapping[str, Any] = field(default_factory=dict)
    access_token_ttl: int | None = None
    """Seconds requested when the session was created; None: the policy's."""
    with_id_token: bool = False
    """Whether a refresh also issues an ID token."""

    generation: int = 0
    """The number of rotations of the refresh token."""
    refresh_hash: bytes | None = None
    """SHA-256 of the current refresh secret; None: the session has no refresh token."""
    previous_hash: bytes | None = None
    """SHA-256 of the previous refresh secret; None: never rotated."""
    key_version: int = 0
    """The MAC key version of the current refresh token, so that a retry makes the same token."""
    retries: int = 0
    """Repeated presentations of the previous refresh token since the last rotation."""
    session_hash: bytes | None = None
    """SHA-256 of the session token's secret; None: the session has no session token."""
    personal_hash: bytes | None = None
    """SHA-256 of the personal access token's secret; None: the session is no personal access token.

    A personal access token has no other token, and both its expiries are the same.
    """
    name: str = ""
    """The name of a personal access token, for people. Empty for other sessions."""
    identity_claims: Mapping[str, Any] = field(default_factory=dict)
    """Claims about the subject that only the userinfo endpoint returns (OpenID Connect Core 1.0, section 5.1)."""
    upstream: str = ""
    """The name of the upstream that authenticated the subject. Empty: none did."""
    upstream_session: str = ""
    """The `sid` of the session at the upstream. Empty: the upstream named none."""

    classification: str = ""
    """The classification of the client when the session began. Empty: a node of an earlier version began the session."""

    create_time: float
    rotate_time: float
    """The time of the last rotation; `create_time` before the first."""
    last_use_time: float
    idle_expire_time: float
    absolute_expire_time: float

    revision: int = 0
    """The head of the revocation log when the row was inserted, read in the same statement."""
    revoke_time: float | None = None
    revoke_reason: RevocationReason = RevocationReason.UNSPECIFIED

    floor: int = 0
    """The highest sequence of a revocation of its subject, of its client or of everything; 0: none.

    Not a column: read from the floors in the same snapshot as the row.
    """
    head: int = 0
    """The head of the log in the same snapshot as the row. Not a column."""

    def state(self, now: float) -> SessionState:
        """Return the state of the session at `now`."""
        if self.revoke_time is not None or self.floor > self.revision:
            return SessionState.REVOKED
        if self.absolute_expire_time <= now:
            return SessionState.EXPIRED
        if self.idle_expire_time <= now:
            return SessionState.IDLE
        return SessionState.ACTIVE

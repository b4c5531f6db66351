"""A session: one login of a subject through a client.

What its row holds and what may be concluded from it.
"""

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
    """It was not used for longer than its idle timeout."""
    EXPIRED = "expired"
    """Its absolute time is over."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One row. Times are NumericDates (seconds since the epoch, UTC, microsecond precision)."""

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
    """Seconds asked for when the session was made; None: the policy's."""
    with_id_token: bool = False
    """Whether a refresh issues an ID token, too."""

    generation: int = 0
    """How often the refresh token was rotated."""
    refresh_hash: bytes | None = None
    """SHA-256 of the current refresh secret; None: the session has no refresh token."""
    previous_hash: bytes | None = None
    """SHA-256 of the secret before it; None: never rotated."""
    key_version: int = 0
    """The MAC key version the current refresh token was made with, so that a retry makes the same one."""
    retries: int = 0
    """How often the previous refresh token was presented again since the last rotation."""
    session_hash: bytes | None = None
    """SHA-256 of the session token's secret; None: the session has no session token."""

    create_time: float
    rotate_time: float
    """When `generation` last changed; `create_time` if it never did."""
    last_use_time: float
    idle_expire_time: float
    absolute_expire_time: float

    revision: int = 0
    """The head of the revocation log when the row was made, read in the same statement."""
    revoke_time: float | None = None
    revoke_reason: RevocationReason = RevocationReason.UNSPECIFIED

    floor: int = 0
    """The highest sequence at which its subject, its client or everything was revoked; 0: never.

    Not a column: read from the floors in the same snapshot as the row.
    """
    head: int = 0
    """The head of the log in the same snapshot as the row. Not a column."""

    def state(self, now: float) -> SessionState:
        """Whether it can be used at `now`."""
        if self.revoke_time is not None or self.floor > self.revision:
            return SessionState.REVOKED
        if self.absolute_expire_time <= now:
            return SessionState.EXPIRED
        if self.idle_expire_time <= now:
            return SessionState.IDLE
        return SessionState.ACTIVE

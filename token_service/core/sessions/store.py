"""The session store: the port for the session table, and the commands that change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol
from uuid import UUID

from token_service.core.events.event import NO_ORIGIN, AuditEvent, Origin
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session
from token_service.tokens.claims import AuthContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Replace the refresh token of a session, if its row matches the command."""

    session_id: UUID
    client_id: str
    device_id: str
    """Must equal the row's, unless the row's is empty."""
    generation: int
    current_hash: bytes
    next_hash: bytes
    key_version: int
    """The MAC key version of the next token."""
    now: float
    idle_expire_time: float
    """The new one, before it is cut to the row's absolute expiry."""
    origin: Origin = NO_ORIGIN
    """The origin of this use; NO_ORIGIN: the row keeps the one of an earlier use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Count a repeated use of the previous refresh token, if the row matches the command."""

    session_id: UUID
    client_id: str
    device_id: str
    generation: int
    """The generation of the presented token; the row's must be one higher, so the successor is unused."""
    previous_hash: bytes
    rotated_after: float
    """The row's `rotate_time` must be later than this: the grace window."""
    max_retries: int
    """The row's `retries` must be lower than this."""
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Move the idle expiry of a live session."""

    session_id: UUID
    now: float
    idle_expire_time: float
    """The new one, before it is cut to the row's absolute expiry."""
    refresh_hash: bytes | None = None
    """If given, must equal the row's current hash (a refresh without rotation)."""
    origin: Origin = NO_ORIGIN
    """The origin of a refresh; NO_ORIGIN: the row keeps the one of an earlier use. Without `refresh_hash` unused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """Change what a live session puts into its tokens, if its scopes are still the expected ones."""

    session_id: UUID
    now: float
    expected_scopes: tuple[str, ...]
    """The row's scopes, so that of two concurrent changes none widens what the other narrowed."""
    scopes: tuple[str, ...]
    custom_claims: Mapping[str, Any] | None
    """None: they stay."""
    auth_context: AuthContext | None = None
    with_auth_context: bool = False
    """Whether `auth_context` is set; None then removes it."""


RAISES: Final = "raises of sessions"
"""The scope, in `UsedIds`, of the grants that raise sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """Give a live session the authentication context of a later authentication, once for each grant."""

    session_id: UUID
    client_id: str
    now: float
    expected: AuthContext | None
    """The row's, so that of two concurrent changes none overwrites what the other decided."""
    auth_context: AuthContext
    grant_id: str
    """The identifier of the grant, in the scope `RAISES` of `UsedIds`."""
    expire_time: float
    """The expiry of the grant."""


class SessionFilter(Enum):
    """The column by which sessions are listed."""

    SUBJECT = "subject"
    CLIENT = "client_id"
    DEVICE = "device_id"


@dataclass(frozen=True, slots=True)
class SessionPosition:
    """The last row of a page of sessions, in descending order of (create_time, id)."""

    create_time: float
    session_id: UUID


class SessionStore(Protocol):
    """The session table: one row per session; a refresh adds no row.

    A row is *live* at `now` if it is not revoked, neither expiry has passed (`expiry > now`), and no floor of
    its subject, its client or everything is higher than its `revision`. All returned sessions carry `floor`
    and `head` of the same snapshot as the row.
    """

    async def create(
        self, session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN
    ) -> tuple[Session, bool]:
        """Insert a session, with `revision` = the head of the revocation log read in the inserting statement.

        Returns the row and True. If `request_hash` is given and a row with the same client_id and
        request_hash exists, inserts nothing and returns that row and False; exactly one of any number of
        concurrent calls inserts.

        Raises `ClientDisabledError`, decided in the inserting statement, if the client is registered and not active.
        """
        ...

    async def rotate(self, command: Rotation) -> Session | None:
        """Rotate in exactly one UPDATE: at most one of all calls with the same (generation, current_hash) succeeds.

        Conditions: the row is live and its client_id, device_id, generation and refresh_hash are the
        command's. Then sets generation + 1, previous_hash = refresh_hash, refresh_hash, key_version,
        rotate_time = last_use_time = now, retries = 0, idle expiry, and the origin of the last use unless it is
        NO_ORIGIN. Returns the changed row, or None if a condition fails. Concurrent calls of one node may share a commit.
        """
        ...

    async def retry(self, command: Retry) -> Session | None:
        """Count one retry (`retries` + 1) in one UPDATE; return None if the row is not live or does not match."""
        ...

    async def use(self, command: Use) -> Session | None:
        """Set last_use_time and the idle expiry of a live row in one UPDATE; return None if no row matches.

        With a refresh_hash, also sets the origin of the last use unless it is NO_ORIGIN.
        """
        ...

    async def amend(self, command: Amendment, events: Sequence[AuditEvent] = ()) -> Session | None:
        """Set scopes, custom claims and auth_context of a live row in one UPDATE; return None if no row matches.

        The rows of the audit events are written in the same transaction, if the row matches.
        """
        ...

    async def raise_context(
        self, command: Raise, events: Sequence[AuditEvent] = ()
    ) -> tuple[Session | None, bool]:
        """Record the use of the grant and set the authentication context of a live row, both or none.

        Returns the changed row and True; None and True if the row is not live or does not match; None and False if the
        grant was used before. Exactly one of any number of concurrent calls with a grant uses it, on any node. The rows
        of the audit events are written in the same transaction, if the row changes.
        """
        ...

    async def get(self, session_id: UUID) -> Session | None:
        """Return the row, live or not."""
        ...

    async def describe(self, session_id: UUID) -> SessionDetails | None:
        """Return the row, live or not, with what GetSession shows besides."""
        ...

    async def list(
        self,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        limit: int,
        after: SessionPosition | None,
        personal: bool = False,
        client_id: str = "",
    ) -> Sequence[SessionDetails]:
        """Return up to `limit` rows after a position, newest first (create_time, then id, both descending).

        `live_at`: only rows live at that time. `personal`: only personal access tokens. `client_id`: only rows of this
        client; empty: of any.
        """
        ...

    async def by_upstream(
        self, upstream: str, upstream_session: str, *, live_at: float, limit: int
    ) -> Sequence[UUID]:
        """Return the ids of up to `limit` sessions live at a time that came of one session at an upstream.

        No session has an empty `upstream_session`, so none is found by it.
        """
        ...

    async def purge(self, before: float, limit: int) -> int:
        """Delete up to `limit` rows that ended (by either expiry or a revocation) before a time; return how many."""
        ...

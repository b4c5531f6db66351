"""The session store: the port for the session table, and the commands that change it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Final, Protocol
from uuid import UUID

from token_service.core.events.event import NO_ORIGIN, AuditEvent, Origin
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session
from token_service.tokens.claims import AuthContext, Confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judgment of a use by its origin. It holds only for the row that was judged."""

    expected_tag: bytes
    """Must equal the row's `origin_tag`; empty: the row has none."""
    renewed_by: float = inf
    """The row's last renewal must not be later than this."""
    tag: bytes
    """The row's next `origin_tag`; empty: none."""
    origins: str | None = None
    """The row's next `origins`; None: they stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Replace the refresh token of a session, if its row matches the command."""

    session_id: UUID
    client_id: str
    device_id: str
    """Must equal the row's, unless the row's is empty."""
    proved: tuple[Confirmation, ...] = ()
    """Keys that the caller proves. The row's key must be one of them, unless the row has none."""
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
    judged: Judged | None = None
    """None: any row is accepted, and its tag and its origins stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Count a repeated use of the previous refresh token, if the row matches the command."""

    session_id: UUID
    client_id: str
    device_id: str
    proved: tuple[Confirmation, ...] = ()
    generation: int
    """The generation of the presented token; the row's must be one higher, so the successor is unused."""
    previous_hash: bytes
    rotated_after: float
    """The row's `rotate_time` must be later than this: the grace window."""
    max_retries: int
    """The row's `retries` must be lower than this."""
    now: float
    judged: Judged | None = None
    """Its `expected_tag` must be the row's. None: any row is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Count a use of a superseded refresh token that is no theft, if the row is the one that was judged."""

    session_id: UUID
    generation: int
    """Must be the row's."""
    max_races: int
    """The row's number of races must be lower than this."""
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
    judged: Judged | None = None
    """As in `Rotation`. Without `refresh_hash` unused."""


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

        Conditions: the row is live, its client_id, device_id, generation and refresh_hash are the command's, its
        key is proved, and it is the row that was `judged`, if that is given. Then sets generation + 1, previous_hash = refresh_hash, refresh_hash, key_version,
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

    async def race(self, command: Race, events: Sequence[AuditEvent] = ()) -> bool:
        """Count one race of a live row in one UPDATE; return whether a row matches.

        The rows of the audit events are written in the same transaction, if the row matches.
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
        until: SessionPosition | None = None,
        personal: bool = False,
        client_id: str = "",
    ) -> Sequence[SessionDetails]:
        """Return up to `limit` rows after a position, newest first (create_time, then id, both descending).

        `live_at`: only rows live at that time. `until`: only rows up to this position and at it. `personal`: only
        personal access tokens. `client_id`: only rows of this client; empty: of any.
        """
        ...

    async def position(
        self, by: SessionFilter, value: str, *, after: SessionPosition | None, count: int
    ) -> SessionPosition | None:
        """Return the position of the row `count` rows after a position in the order of `list`, whatever its state.

        None: so many rows do not follow.
        """
        ...

    async def by_upstream(
        self, upstream: str, upstream_session: str, *, live_at: float, limit: int
    ) -> Sequence[UUID]:
        """Return the ids of up to `limit` sessions live at a time that came of one session at an upstream.

        No session has an empty `upstream_session`, so none is found by it.
        """
        ...

    async def purge(self, before: float, limit: int, expired: Counter[str] | None = None) -> int:
        """Delete up to `limit` rows that ended (by either expiry or a revocation) before a time; return how many.

        Counts in `expired`, by client, the deleted rows that expired without a revocation.
        """
        ...

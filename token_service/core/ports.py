"""What `core` needs from the outside: small protocols with their contracts.

For every port: implementations translate their driver's errors into `StoreUnavailableError` (the call may or
may not have taken effect) and raise nothing else but what is named here; cancelling a call leaves the store
consistent; every write is durable before it returns. All times are NumericDates in seconds (float, kept to
the microsecond).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Protocol, TypeAlias
from uuid import UUID

from token_service.core.session import Session
from token_service.errors import StoreUnavailableError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

Entropy = Callable[[int], bytes]
"""`entropy(n)`: n bytes from a cryptographically secure source."""


# --- Sessions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Replace the refresh token of a session, if everything here is still true of its row."""

    session_id: UUID
    client_id: str
    device_id: str
    """Must equal the row's, unless the row's is empty."""
    generation: int
    current_hash: bytes
    next_hash: bytes
    key_version: int
    """Of the next token."""
    now: float
    idle_expire_time: float
    """The new one, before it is cut to the row's absolute expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Count a repeated use of the token before the current one, if everything here is still true of its row."""

    session_id: UUID
    client_id: str
    device_id: str
    generation: int
    """Of the token presented; the row's must be one higher, so its successor is unused."""
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
    """If given, must be the row's current one (a refresh without rotation)."""


class SessionFilter(Enum):
    """By which column to list sessions."""

    SUBJECT = "subject"
    CLIENT = "client_id"
    DEVICE = "device_id"


@dataclass(frozen=True, slots=True)
class SessionPosition:
    """Where a page of sessions ended: after this row, in descending order of (create_time, id)."""

    create_time: float
    session_id: UUID


class SessionStore(Protocol):
    """The table of sessions: one row a session, however often it is refreshed.

    A row is *live* at `now` if it is not revoked, neither expiry has come (`expiry > now`), and no floor of
    its subject, its client or everything is higher than its `revision`. All sessions returned carry `floor`
    and `head` of the same snapshot as the row.
    """

    async def create(self, session: Session, request_hash: bytes | None) -> tuple[Session, bool]:
        """Insert a session, with `revision` = the head of the revocation log read in the inserting statement.

        Returns the row and True. If `request_hash` is given and a row with the same client_id and
        request_hash exists, inserts nothing and returns that row and False; exactly one of any number of
        concurrent calls inserts.
        """
        ...

    async def rotate(self, command: Rotation) -> Session | None:
        """Rotate in exactly one UPDATE, deciding any race: at most one of all calls with one (generation,
        current_hash) succeeds.

        Conditions: the row is live and its client_id, device_id, generation and refresh_hash are the
        command's. Then generation + 1, previous_hash = refresh_hash, refresh_hash, key_version, rotate_time =
        last_use_time = now, retries = 0, idle expiry. Returns the row as it is now, or None if it did not
        apply. Concurrent calls of one node may share a commit.
        """
        ...

    async def retry(self, command: Retry) -> Session | None:
        """Count one retry (`retries` + 1) in one UPDATE, or return None if a condition of the command or
        liveness fails.
        """
        ...

    async def use(self, command: Use) -> Session | None:
        """Set last_use_time and the idle expiry of a live row in one UPDATE; None if it did not apply."""
        ...

    async def get(self, session_id: UUID) -> Session | None:
        """The row, live or not."""
        ...

    async def list(
        self,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        limit: int,
        after: SessionPosition | None,
    ) -> Sequence[Session]:
        """Up to `limit` rows, newest first (create_time, then id, both descending), after a position;
        `live_at`: only rows live then.
        """
        ...

    async def purge(self, before: float, limit: int) -> int:
        """Delete up to `limit` rows that ended (absolute expiry, idle expiry or revocation) before a time;
        how many.
        """
        ...


# --- The revocation log -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where the log ends."""

    epoch: str
    """The name of this log: a new database has another."""
    sequence: int
    compacted: int
    """Entries up to this one are purged; none of them can hit a valid token."""
    key_revision: int
    """Grows whenever the signing keys or the server's secrets change."""
    newest: float | None = None
    """`revoke_time` of the last entry: what tells it from another one at the same sequence, in a database
    that was put back to a backup and has grown again. None: not known.
    """
    follows: float | None = field(default=None, compare=False)
    """As returned by an append: `newest` as it was before the entries of that call."""
    awaited: int = field(default=0, compare=False)
    """Up to which entry somebody waits, or has waited, for validators to confirm."""
    read_time: float = field(default=inf, compare=False)
    """When it was read, by the database's clock."""


class LogMovedError(StoreUnavailableError):
    """The log was written on another server, or before a failover: this one may lack its last entries.

    Nothing is read from it or appended until it is renewed.
    """

    default_message = (
        "the database server was promoted or replaced since the revocation log was written: run "
        "`token-service log renew`, with `--nothing-lost` if no commit was lost"
    )

    def __init__(self, head: LogHead, *, nothing_lost: bool) -> None:
        """`nothing_lost`: a synchronous standby has every entry that was acknowledged."""
        super().__init__(retry_after=1.0)
        self.head = head
        self.nothing_lost = nothing_lost


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationDraft:
    """An entry to be: everything but its sequence."""

    target: RevocationTarget
    value: str
    revoke_time: float
    expire_time: float
    remember: float | None = None
    """Seconds after the append, by the database's clock, before which it does not expire either: the clock that
    `expire_time` was reckoned by may be behind. None: `expire_time` alone counts.
    """
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    token_expire_time: int | None = None
    awaited: bool = False
    """Whether somebody waits until validators have confirmed it: the head says so from then on."""

    def expires(self, read_time: float) -> float:
        """When the entry expires if it is appended at `read_time` by the database's clock."""
        return self.expire_time if self.remember is None else max(self.expire_time, read_time + self.remember)


FloorPosition: TypeAlias = tuple[int, str]
"""Kind and target of a floor."""


class RevocationLog(Protocol):
    """The truth about revocations.

    Commit order is sequence order and sequences have no gaps: whoever sees entry n sees, or will never see
    because they are compacted, all entries below n.
    """

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        """Append, unless that raises `LogMovedError`, in one transaction, with what goes with each target:

        - SESSION: sets revoke_time and revoke_reason of the row; if there is no such row or it is revoked
          already, the draft is left out;
        - SUBJECT, CLIENT, EVERYTHING: raises the floor to the entry's sequence. O(1) however many sessions
          there are: they are dead by their `revision`;
        - KEY: the signing key becomes revoked and key_revision grows; a key not known or revoked already is
          left out;
        - TOKEN_ID: nothing else.

        Returns the head after the commit (at least as high as every entry) and the entries appended.
        Concurrent calls of one node may share a commit.
        """
        ...

    async def head(self) -> LogHead:
        """The head, read after the call began from a server that can write. Raises `LogMovedError`."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """Up to `limit` entries with a sequence above `after`, in order, without gaps (but for compacted
        ones, of which it has none, and before a renewal that kept them).
        """
        ...

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """Begin the log anew in one transaction, as `epoch`, at `sequence`; the new head.

        `draft`, which revokes EVERYTHING, becomes the entry `sequence` and raises the floor. The revocations
        of keys follow it as they were, for what a stolen key signs may say anything about when it was issued.
        Every other entry is compacted.

        With `keep` all entries stay as they are, before a gap in the sequences, and `draft` is a TOKEN_ID.

        Works where `head` and `append` raise `LogMovedError`. Changes nothing and returns None if the log is not `replaces` any more
        or is not below `sequence`.
        """
        ...

    async def compact(self, now: float, limit: int) -> int:
        """Purge up to `limit` of the oldest entries, as long as they expired before `now`; stops at the first
        one that did not. How many.
        """
        ...

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """Look at up to `limit` floors of subjects and clients after a position, and delete those raised
        before a time that are above no session.

        `before` must lie further back than any statement takes, for a session being created is not seen. How
        many were deleted, and the position of the last one looked at; None at the end of all floors.
        """
        ...


# --- Keys -------------------------------------------------------------------------------------------------------------


class SigningKeyState(Enum):
    """Where a signing key is in its life."""

    PREPARED = "prepared"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSigningKey:
    """A signing key at rest."""

    key_id: str
    algorithm: Algorithm
    state: SigningKeyState
    public_key: bytes
    """DER SubjectPublicKeyInfo; empty for HS256."""
    private_key: bytes
    """Wrapped private key (AES-256-GCM); opaque to the store. Empty if it lives in an HSM."""
    wrapping_key_id: str
    """Which key-encryption key wrapped it. Empty if it lives in an HSM."""
    provider: str = "local"
    """Where the private key is used: `local` or `pkcs11`."""
    certificates: tuple[bytes, ...] = ()
    """Certificate chain in DER, the key's own certificate first (RFC 7517, section 4.7). Empty: none."""
    create_time: float
    activate_time: float | None = None
    retire_time: float | None = None
    revoke_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMacKey:
    """A MAC key for opaque tokens at rest. The highest version but one is in use, the highest is a spare."""

    version: int
    wrapped: bytes
    wrapping_key_id: str
    create_time: float


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """All keys at one revision."""

    revision: int
    signing_keys: Sequence[StoredSigningKey]
    mac_keys: Sequence[StoredMacKey]


class KeyStore(Protocol):
    """Keys shared by all nodes.

    Every change is a compare-and-set on the revision, so two nodes never both decide.
    """

    async def load(self) -> StoredKeys:
        """All keys, with the revision of the same snapshot.

        Raises `ConfigurationError` if a row is none the service wrote.
        """
        ...

    async def save(
        self,
        expected_revision: int,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        *,
        deleted_key_ids: Sequence[str] = (),
    ) -> bool:
        """Insert or update these keys and delete others in one transaction, and raise the revision by one, if
        it is still `expected_revision`; otherwise change nothing and return False.
        """
        ...


class Signer(Protocol):
    """Signs with one key."""

    key_id: str
    algorithm: Algorithm

    async def sign(self, signing_input: bytes) -> bytes:
        """The JWS signature.

        Never blocks the event loop for longer than a thread switch. Raises `SigningUnavailableError`.
        """
        ...


class KeyWrap(Protocol):
    """Wraps private keys for rest."""

    key_id: str

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        """Encrypt, bound to `context`."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        """Decrypt.

        Raises `ConfigurationError` if no such key-encryption key is configured, or the text or its context is
        not authentic.
        """
        ...


# --- Several nodes ----------------------------------------------------------------------------------------------------


class LeaseStore(Protocol):
    """Which node does what only one should do, and times that nodes note for those that come after them.

    Leases go by the database's own time.
    """

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        """Take or renew a lease for `ttl` seconds. False if another holder has it and it has not run out."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back early; nothing happens if the holder does not have it."""
        ...

    async def earliest(self, name: str, time: float) -> float:
        """The time noted under a name that no lease has, after `time` was noted if that is earlier or the
        first one.
        """
        ...

    async def note(self, name: str, time: float) -> None:
        """Note a time under a name that no lease has, whatever was noted before."""
        ...


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one node knows of its validators."""

    node_id: str
    connected: int
    """Named validators with an open stream."""
    applied: Sequence[tuple[int, int]]
    """How many of them have confirmed which sequence: (sequence, count), 64 pairs at most, rounded down to
    fit. The sequence -1 stands for those that have not confirmed for long although they were asked to.
    """
    foreign: Sequence[tuple[str, int]]
    """Confirmations, (subscriber_id, sequence), that reached this node although the stream is elsewhere;
    4,096 at most.
    """
    key_revision: int = 0
    """The lowest revision of the key set that any of its validators has confirmed. Without validators it
    means nothing.
    """
    age: float = 0.0
    """Seconds since it was written, by the database's clock. Set by the store."""


class NodeStore(Protocol):
    """Reports of all nodes."""

    async def report(self, report: NodeReport) -> None:
        """Replace this node's report."""
        ...

    async def reports(self, max_age: float) -> Sequence[NodeReport]:
        """Reports not older than `max_age` seconds; older ones are deleted."""
        ...

    async def forget(self, node_id: str) -> None:
        """Delete this node's report."""
        ...

    async def request(self, sequence: int) -> None:
        """Let the head of the log say that somebody waits for confirmations of `sequence`, unless it says so
        of a later one.
        """
        ...


class RevocationMirror(Protocol):
    """The fast copy of the log outside of SQL (Redis): a hint for other nodes and a set for others to query.

    May be lost at any time.

    Calls time out quickly and raise `StoreUnavailableError`.
    """

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries to the stream and the set. Idempotent."""
        ...

    async def position(self, epoch: str) -> int | None:
        """Up to which sequence of this log the mirror misses nothing; None if it is not known, because it has
        no copy or has lost something.
        """
        ...

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Fill stream and set anew from the live entries."""
        ...

    def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """New entries as other nodes publish them, with the epoch of their log: maybe out of order, maybe
        with gaps. Ends with `StoreUnavailableError`.
        """
        ...


# --- Audit ------------------------------------------------------------------------------------------------------------


class Audit(Protocol):
    """Who did what. Never given a token, a key or a secret."""

    def record(self, event: str, **fields: object) -> None:
        """Write one audit event. Does not block and does not raise."""
        ...

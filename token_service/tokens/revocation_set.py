"""The live revocations, as servers and validators hold them.

Invariants:
- whether a token is revoked depends on the entries applied, never on their order;
- an entry is forgotten only when no token it could hit is valid any more;
- `version` changes whenever a token that was not revoked may have become so, and no two sets of a process
  ever have the same: a verdict reached at one version holds for as long as the version does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.fingerprint_set import FingerprintSet, mark_of
from token_service.tokens.revocation import Revocation, RevocationTarget

TOKEN_BUCKET_SECONDS: Final = 64
"""Token ids are kept by their token's `exp`, this many seconds a bucket."""
SESSION_BUCKET_SECONDS: Final = 1024
"""Session ids are kept by their entry's expiry, this many seconds a bucket. All are looked in; they are few.
"""
UNKNOWN_EXPIRY: Final = 0
"""The number of every bucket of token ids revoked without their token, which are always looked in.

They are kept as session ids are, so that they expire too.
"""

_versions: Final = count(1)


@dataclass(frozen=True, slots=True)
class Block:
    """A packed part of the set: ids of one kind in one bucket."""

    target: RevocationTarget
    """TOKEN_ID or SESSION."""
    bucket: int
    fingerprints: bytes
    """8 bytes each, ascending."""
    expire_time: float


class _Buckets:
    """Fingerprints by number of bucket, dropped bucket by bucket."""

    __slots__ = ("_expire_times", "all", "by_number")

    def __init__(self) -> None:
        self.by_number: dict[int, FingerprintSet] = {}
        self.all: tuple[FingerprintSet, ...] = ()
        self._expire_times: dict[int, float] = {}

    def at(self, number: int, expire_time: float) -> FingerprintSet:
        ids = self.by_number.get(number)
        if ids is None:
            ids = self.by_number[number] = FingerprintSet()
            self.all = (*self.all, ids)
        self._expire_times[number] = max(expire_time, self._expire_times.get(number, expire_time))
        return ids

    def at_expiry(self, expire_time: float) -> FingerprintSet:
        return self.at(int(expire_time) // SESSION_BUCKET_SECONDS, expire_time)

    def drop_expired(self, now: float) -> None:
        expired = [number for number, expire_time in self._expire_times.items() if expire_time <= now]
        for number in expired:
            del self.by_number[number], self._expire_times[number]
        if expired:
            self.all = tuple(self.by_number.values())

    def blocks(self, target: RevocationTarget, number: int | None = None) -> Iterator[Block]:
        known = [(own, ids, self._expire_times[own]) for own, ids in self.by_number.items()]
        for own, ids, expire_time in known:
            for part in ids.pack():
                yield Block(target, own if number is None else number, part, expire_time)

    def __len__(self) -> int:
        return sum(map(len, self.all))


class RevocationSet:
    """One thread applies entries; any thread may ask. Asking never waits."""

    __slots__ = (
        "_clients",
        "_everything",
        "_keys",
        "_sessions",
        "_subjects",
        "_tokens",
        "_unknown",
        "version",
    )

    def __init__(self) -> None:
        self.version = next(_versions)
        self._tokens = _Buckets()
        self._unknown = _Buckets()
        self._sessions = _Buckets()
        self._subjects: dict[str, Revocation] = {}
        self._clients: dict[str, Revocation] = {}
        self._keys: dict[str, Revocation] = {}
        self._everything: Revocation | None = None

    def apply(self, entry: Revocation) -> None:
        """Add one entry."""
        target = entry.target
        if target is RevocationTarget.TOKEN_ID:
            expiry = entry.token_expire_time
            number = UNKNOWN_EXPIRY if expiry is None else expiry // TOKEN_BUCKET_SECONDS
            self._token_ids(number, entry.expire_time).add(mark_of(entry.value))
        elif target is RevocationTarget.SESSION:
            self._sessions.at_expiry(entry.expire_time).add(mark_of(entry.value))
        elif target is RevocationTarget.SUBJECT:
            _join(self._subjects, entry)
        elif target is RevocationTarget.CLIENT:
            _join(self._clients, entry)
        elif target is RevocationTarget.KEY:
            _join(self._keys, entry)
        else:
            self._everything = _joined(self._everything, entry)
        self.version = next(_versions)  # last: a verdict reached meanwhile belongs to the version before

    def load(self, block: Block) -> None:
        """Add a packed block. Raises `ValueError` if its fingerprints are not packed as they must be."""
        at = self._token_ids if block.target is RevocationTarget.TOKEN_ID else self._sessions.at
        at(block.bucket, block.expire_time).update_packed(block.fingerprints)
        self.version = next(_versions)

    def find(self, claims: VerifiedClaims) -> RevocationTarget | None:
        """By what the token is revoked; None if it is not."""
        tokens = self._tokens.by_number
        if tokens:
            ids = tokens.get(claims.expire_time // TOKEN_BUCKET_SECONDS)  # type: ignore[arg-type]  # 7.0 finds 7
            if ids is not None and ids.has(claims.token_mark):
                return RevocationTarget.TOKEN_ID
        for ids in self._unknown.all:
            if ids.has(claims.token_mark):
                return RevocationTarget.TOKEN_ID
        if claims.session_id:
            for ids in self._sessions.all:
                if ids.has(claims.session_mark):
                    return RevocationTarget.SESSION
        if claims.key_id in self._keys:
            return RevocationTarget.KEY
        entry = self._subjects.get(claims.subject)
        if entry is not None and _hits(entry, claims):
            return RevocationTarget.SUBJECT
        entry = self._clients.get(claims.client_id)
        if entry is not None and _hits(entry, claims):
            return RevocationTarget.CLIENT
        entry = self._everything
        if entry is not None and _hits(entry, claims):
            return RevocationTarget.EVERYTHING
        return None

    def has_session(self, session_id: str) -> bool:
        """Whether this session is revoked by its own id."""
        mark = mark_of(session_id)
        return any(ids.has(mark) for ids in self._sessions.all)

    def has_token_id(self, token_id: str, expire_time: int | None) -> bool:
        """Whether this token id is revoked by itself; `expire_time` is its `exp` where that is known."""
        mark = mark_of(token_id)
        if expire_time is not None:
            ids = self._tokens.by_number.get(expire_time // TOKEN_BUCKET_SECONDS)
            if ids is not None and ids.has(mark):
                return True
        return any(ids.has(mark) for ids in self._unknown.all)

    def has_key(self, key_id: str) -> bool:
        """Whether this signing key is revoked."""
        return key_id in self._keys

    def drop_expired(self, now: float) -> None:
        """Forget what can't hit a valid token any more."""
        for buckets in (self._tokens, self._unknown, self._sessions):
            buckets.drop_expired(now)
        for named in (self._subjects, self._clients, self._keys):
            for name in [name for name, entry in named.items() if entry.expire_time <= now]:
                del named[name]
        if self._everything is not None and self._everything.expire_time <= now:
            self._everything = None

    def blocks(self) -> Iterator[Block]:
        """The packed ids, a bucket in several blocks if it is large.

        For the thread that applies, which may go on applying meanwhile: some of what it applies is in the
        blocks to come.
        """
        yield from self._tokens.blocks(RevocationTarget.TOKEN_ID)
        yield from self._unknown.blocks(RevocationTarget.TOKEN_ID, UNKNOWN_EXPIRY)
        yield from self._sessions.blocks(RevocationTarget.SESSION)

    def entries(self) -> Iterable[Revocation]:
        """The entries that are not packed: subjects, clients, keys, everything."""
        for named in (self._subjects, self._clients, self._keys):
            yield from tuple(named.values())
        if self._everything is not None:
            yield self._everything

    def __len__(self) -> int:
        """How many revocations are live."""
        packed = len(self._tokens) + len(self._unknown) + len(self._sessions)
        named = len(self._subjects) + len(self._clients) + len(self._keys)
        return packed + named + (self._everything is not None)

    def _token_ids(self, number: int, expire_time: float) -> FingerprintSet:
        if number == UNKNOWN_EXPIRY:
            return self._unknown.at_expiry(expire_time)
        return self._tokens.at(number, expire_time)


def _join(named: dict[str, Revocation], entry: Revocation) -> None:
    named[entry.value] = _joined(named.get(entry.value), entry)


def _joined(known: Revocation | None, entry: Revocation) -> Revocation:
    """The entry that revokes as much as both.

    Each part on its own: times come from clocks that need not follow the sequence.
    """
    if known is None:
        return entry
    later, earlier = (entry, known) if known.sequence <= entry.sequence else (known, entry)
    if later.revoke_time >= earlier.revoke_time and later.expire_time >= earlier.expire_time:
        return later
    return replace(
        later,
        revoke_time=max(later.revoke_time, earlier.revoke_time),
        expire_time=max(later.expire_time, earlier.expire_time),
    )


def _hits(entry: Revocation, claims: VerifiedClaims) -> bool:
    revision = claims.revision
    if revision is not None:
        return revision < entry.sequence
    return claims.issue_time <= entry.revoke_time

"""The live revocations, as servers and validators hold them.

Invariants:
- whether a token is revoked depends on the entries applied, never on their order;
- an entry is forgotten only when no token it could hit is valid any more;
- `version` changes whenever a token that was not revoked may have become so; a verdict reached at one version holds
  for as long as the version does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from token_service.tokens.claims import VerifiedClaims, fingerprint
from token_service.tokens.fingerprint_set import FingerprintSet
from token_service.tokens.revocation import Revocation, RevocationTarget

TOKEN_BUCKET_SECONDS: Final = 64
"""Token ids are kept by their token's `exp`, this many seconds a bucket."""
SESSION_BUCKET_SECONDS: Final = 1024
"""Session ids are kept by their entry's expiry, this many seconds a bucket."""
UNKNOWN_EXPIRY: Final = 0
"""The bucket of token ids revoked without their token; always looked in."""


@dataclass(frozen=True, slots=True)
class Block:
    """A packed part of the set: ids of one kind in one bucket."""

    target: RevocationTarget
    """TOKEN_ID or SESSION."""
    bucket: int
    fingerprints: bytes
    """8 bytes each, ascending."""
    expire_time: float


@dataclass(slots=True)
class _Bucket:
    ids: FingerprintSet
    expire_time: float


class RevocationSet:
    """One thread applies entries; any thread may ask. Asking never waits."""

    __slots__ = ("_everything", "_keys", "_named", "_sessions", "_tokens", "version")

    def __init__(self) -> None:
        self.version = 0
        self._tokens: dict[int, _Bucket] = {}
        self._sessions: dict[int, _Bucket] = {}
        self._named: dict[tuple[RevocationTarget, str], Revocation] = {}
        self._keys: dict[str, Revocation] = {}
        self._everything: Revocation | None = None

    def apply(self, entry: Revocation) -> None:
        """Add one entry."""
        target = entry.target
        if target is RevocationTarget.TOKEN_ID:
            expiry = entry.token_expire_time
            key = UNKNOWN_EXPIRY if expiry is None else expiry // TOKEN_BUCKET_SECONDS
            _bucket(self._tokens, key, entry.expire_time).ids.add(fingerprint(entry.value))
        elif target is RevocationTarget.SESSION:
            key = int(entry.expire_time) // SESSION_BUCKET_SECONDS
            _bucket(self._sessions, key, entry.expire_time).ids.add(fingerprint(entry.value))
        elif target is RevocationTarget.KEY:
            self._keys[entry.value] = _later(self._keys.get(entry.value), entry)
        elif target is RevocationTarget.EVERYTHING:
            self._everything = _later(self._everything, entry)
        else:
            name = (target, entry.value)
            self._named[name] = _later(self._named.get(name), entry)
        self.version += 1

    def load(self, block: Block) -> None:
        """Add a packed block. Raises `ValueError` if its fingerprints are not packed as they must be."""
        buckets = self._tokens if block.target is RevocationTarget.TOKEN_ID else self._sessions
        _bucket(buckets, block.bucket, block.expire_time).ids.update_packed(block.fingerprints)
        self.version += 1

    def find(self, claims: VerifiedClaims) -> RevocationTarget | None:
        """By what the token is revoked; None if it is not."""
        buckets = self._tokens
        if buckets:
            mark = claims.fingerprint
            bucket = buckets.get(claims.expire_time // TOKEN_BUCKET_SECONDS)
            if bucket is not None and mark in bucket.ids:
                return RevocationTarget.TOKEN_ID
            bucket = buckets.get(UNKNOWN_EXPIRY)
            if bucket is not None and mark in bucket.ids:
                return RevocationTarget.TOKEN_ID
        if self._sessions and claims.session_id and self.has_session(claims.session_id):
            return RevocationTarget.SESSION
        if self._keys and claims.key_id in self._keys:
            return RevocationTarget.KEY
        if self._named:
            entry = self._named.get((RevocationTarget.SUBJECT, claims.subject))
            if entry is not None and _hits(entry, claims):
                return RevocationTarget.SUBJECT
            entry = self._named.get((RevocationTarget.CLIENT, claims.client_id))
            if entry is not None and _hits(entry, claims):
                return RevocationTarget.CLIENT
        entry = self._everything
        if entry is not None and _hits(entry, claims):
            return RevocationTarget.EVERYTHING
        return None

    def has_session(self, session_id: str) -> bool:
        """Whether this session is revoked by its own id."""
        mark = fingerprint(session_id)
        # A copy of the values: another thread may add a bucket meanwhile.
        return any(mark in bucket.ids for bucket in tuple(self._sessions.values()))

    def has_token_id(self, token_id: str, expire_time: int | None) -> bool:
        """Whether this token id is revoked by itself; `expire_time` is its `exp` where that is known."""
        mark = fingerprint(token_id)
        keys = {UNKNOWN_EXPIRY} if expire_time is None else {UNKNOWN_EXPIRY, expire_time // TOKEN_BUCKET_SECONDS}
        return any(mark in bucket.ids for key in keys if (bucket := self._tokens.get(key)) is not None)

    def has_key(self, key_id: str) -> bool:
        """Whether this signing key is revoked."""
        return key_id in self._keys

    def drop_expired(self, now: float) -> None:
        """Forget what can't hit a valid token any more."""
        for buckets in (self._tokens, self._sessions):
            for key in [key for key, bucket in buckets.items() if bucket.expire_time <= now]:
                del buckets[key]
        for name in [name for name, entry in self._named.items() if entry.expire_time <= now]:
            del self._named[name]
        for key_id in [key_id for key_id, entry in self._keys.items() if entry.expire_time <= now]:
            del self._keys[key_id]
        if self._everything is not None and self._everything.expire_time <= now:
            self._everything = None

    def blocks(self) -> Iterator[Block]:
        """The packed ids."""
        for target, buckets in (
            (RevocationTarget.TOKEN_ID, self._tokens),
            (RevocationTarget.SESSION, self._sessions),
        ):
            for key, bucket in tuple(buckets.items()):
                yield Block(target, key, bucket.ids.pack(), bucket.expire_time)

    def entries(self) -> Iterable[Revocation]:
        """The entries that are not packed: subjects, clients, keys, everything."""
        yield from tuple(self._named.values())
        yield from tuple(self._keys.values())
        if self._everything is not None:
            yield self._everything

    def __len__(self) -> int:
        """How many revocations are live."""
        packed = sum(len(b.ids) for buckets in (self._tokens, self._sessions) for b in tuple(buckets.values()))
        return packed + len(self._named) + len(self._keys) + (self._everything is not None)


def _bucket(buckets: dict[int, _Bucket], key: int, expire_time: float) -> _Bucket:
    bucket = buckets.get(key)
    if bucket is None:
        bucket = buckets[key] = _Bucket(FingerprintSet(), expire_time)
    elif bucket.expire_time < expire_time:
        bucket.expire_time = expire_time
    return bucket


def _later(known: Revocation | None, entry: Revocation) -> Revocation:
    """The entry that revokes as much as both: sequences and times both grow along the log."""
    return entry if known is None or known.sequence <= entry.sequence else known


def _hits(entry: Revocation, claims: VerifiedClaims) -> bool:
    revision = claims.revision
    if revision is not None:
        return revision < entry.sequence
    return claims.issue_time <= entry.revoke_time

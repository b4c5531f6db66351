"""The live revocations, in a node and in a validator.

Invariants:
- whether a token is revoked depends on the applied entries, never on their order;
- an entry is forgotten only after every token it revokes has expired;
- `version` changes whenever a token may have become revoked, and no two sets of a process ever have the same
  version: a verdict stays correct as long as the version is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.fingerprint_set import FingerprintSet, Mark, mark_of, to_mark
from token_service.tokens.floor_map import FloorMap
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

TOKEN_BUCKET_SECONDS: Final = 64
"""Seconds per bucket of token ids, by the `exp` of the token."""
SESSION_BUCKET_SECONDS: Final = 1024
"""Seconds per bucket of session ids, by the expiry of the entry. A lookup searches all buckets; they are few."""
UNKNOWN_EXPIRY: Final = 0
"""The bucket number of token ids revoked without a known `exp`. Every lookup searches these buckets.

The ids are kept by the expiry of the entry, as session ids are, so that they expire too.
"""

FLOOR_BUCKET_SECONDS: Final = 2048
"""Seconds per bucket of subjects and clients, by the expiry of the entry. A lookup searches all buckets."""

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


@dataclass(frozen=True, slots=True)
class Floor:
    """The revocation floor of a subject or client without its name: tokens below it are revoked."""

    target: RevocationTarget
    fingerprint: bytes
    sequence: int
    revoke_time: float
    expire_time: float


class _Floors:
    """The floors of subjects or clients in numbered buckets, dropped bucket by bucket."""

    __slots__ = ("_buckets", "_names", "maps")

    def __init__(self, *, names: bool) -> None:
        self._names = names
        self._buckets: dict[int, tuple[FloorMap, float]] = {}
        self.maps: tuple[FloorMap, ...] = ()

    def apply(self, entry: Revocation) -> None:
        name = bytes([entry.reason]) + entry.value.encode() if self._names else None
        self._at(entry.expire_time).join(mark_of(entry.value), entry.sequence, entry.revoke_time, name)

    def load(self, floor: Floor) -> None:
        mark = to_mark(floor.fingerprint)
        self._at(floor.expire_time).join(mark, floor.sequence, floor.revoke_time)

    def hit(self, mark: Mark, claims: VerifiedClaims) -> bool:
        for floors in self.maps:
            found = floors.find(mark)
            if found is not None and _hits(*found, claims):
                return True
        return False

    def drop_expired(self, now: float) -> None:
        expired = [number for number, (_, expire_time) in self._buckets.items() if expire_time <= now]
        for number in expired:
            del self._buckets[number]
        if expired:
            self.maps = tuple(floors for floors, _ in self._buckets.values())

    def floors(self, target: RevocationTarget) -> Iterator[Floor]:
        for floors, expire_time in tuple(self._buckets.values()):
            for fingerprint, sequence, revoke_time, _ in floors.records():
                yield Floor(target, fingerprint, sequence, revoke_time, expire_time)

    def entries(self, target: RevocationTarget) -> Iterator[Revocation]:
        for floors, expire_time in tuple(self._buckets.values()):
            for _, sequence, revoke_time, name in floors.records():
                reason, value = RevocationReason(name[0]), name[1:].decode()
                yield Revocation(sequence, target, value, revoke_time, expire_time, reason)

    def _at(self, expire_time: float) -> FloorMap:
        number = int(expire_time) // FLOOR_BUCKET_SECONDS
        floors, latest = self._buckets.get(number, (None, expire_time))
        if floors is None:
            floors = FloorMap()
            self.maps = (*self.maps, floors)
        self._buckets[number] = floors, max(latest, expire_time)
        return floors

    def __len__(self) -> int:
        return sum(map(len, self.maps))


class _Buckets:
    """Fingerprints in numbered buckets, dropped bucket by bucket."""

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
    """The set of live revocations. One thread applies entries; any thread may look up. A lookup never waits."""

    __slots__ = (
        "_clients",
        "_everything",
        "_keys",
        "_names",
        "_sessions",
        "_subjects",
        "_tokens",
        "_unknown",
        "version",
    )

    def __init__(self, *, names: bool = False) -> None:
        """Create an empty set. `names` keeps the names of subjects and clients, so that `entries` yields them."""
        self.version = next(_versions)
        self._names = names
        self._tokens = _Buckets()
        self._unknown = _Buckets()
        self._sessions = _Buckets()
        self._subjects = _Floors(names=names)
        self._clients = _Floors(names=names)
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
            self._subjects.apply(entry)
        elif target is RevocationTarget.CLIENT:
            self._clients.apply(entry)
        elif target is RevocationTarget.KEY:
            self._keys[entry.value] = _joined(self._keys.get(entry.value), entry)
        else:
            self._everything = _joined(self._everything, entry)
        self.version = next(_versions)  # last: a concurrent verdict belongs to the previous version

    def load(self, block: Block) -> None:
        """Add a packed block. Raises `ValueError` if its fingerprints are not in ascending order."""
        at = self._token_ids if block.target is RevocationTarget.TOKEN_ID else self._sessions.at
        at(block.bucket, block.expire_time).update_packed(block.fingerprints)
        self.version = next(_versions)

    def load_floor(self, floor: Floor) -> None:
        """Add a floor of a set without names."""
        (self._subjects if floor.target is RevocationTarget.SUBJECT else self._clients).load(floor)
        self.version = next(_versions)

    def find(self, claims: VerifiedClaims) -> RevocationTarget | None:
        """Return the kind of entry that revokes the token, or None if the token is not revoked."""
        tokens = self._tokens.by_number
        if tokens:
            ids = tokens.get(claims.expire_time // TOKEN_BUCKET_SECONDS)  # type: ignore[arg-type]  # 7.0 == 7 as a key
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
        if self._subjects.maps and self._subjects.hit(mark_of(claims.subject), claims):
            return RevocationTarget.SUBJECT
        if self._clients.maps and self._clients.hit(mark_of(claims.client_id), claims):
            return RevocationTarget.CLIENT
        entry = self._everything
        if entry is not None and _hits(entry.sequence, entry.revoke_time, claims):
            return RevocationTarget.EVERYTHING
        return None

    def is_revoked_since(self, subject: str, issue_time: float) -> bool:
        """Return whether a subject was revoked, itself or with everything, at or after `issue_time`.

        It decides about assertions of other issuers, which have no `rev`.
        """
        mark = mark_of(subject)
        for floors in self._subjects.maps:
            found = floors.find(mark)
            if found is not None and issue_time <= found[1]:
                return True
        return self._everything is not None and issue_time <= self._everything.revoke_time

    def revokes_subject(self, subject: str, claims: VerifiedClaims) -> bool:
        """Tell whether an entry for a subject revokes a token that was issued for it, whatever its `sub` is."""
        return bool(self._subjects.maps) and self._subjects.hit(mark_of(subject), claims)

    def has_session(self, session_id: str) -> bool:
        """Return whether an entry for this session id exists."""
        mark = mark_of(session_id)
        return any(ids.has(mark) for ids in self._sessions.all)

    def has_token_id(self, token_id: str, expire_time: int | None) -> bool:
        """Return whether an entry for this token id exists. `expire_time` is the `exp` of the token, if known."""
        mark = mark_of(token_id)
        if expire_time is not None:
            ids = self._tokens.by_number.get(expire_time // TOKEN_BUCKET_SECONDS)
            if ids is not None and ids.has(mark):
                return True
        return any(ids.has(mark) for ids in self._unknown.all)

    def has_key(self, key_id: str) -> bool:
        """Return whether this signing key is revoked."""
        return key_id in self._keys

    def drop_expired(self, now: float) -> None:
        """Forget the entries whose tokens have all expired."""
        for buckets in (self._tokens, self._unknown, self._sessions, self._subjects, self._clients):
            buckets.drop_expired(now)
        for key_id in [key_id for key_id, entry in self._keys.items() if entry.expire_time <= now]:
            del self._keys[key_id]
        if self._everything is not None and self._everything.expire_time <= now:
            self._everything = None

    def blocks(self) -> Iterator[Block]:
        """Yield the packed ids. A large bucket gives several blocks.

        Only the thread that applies entries may iterate. It may apply entries during the iteration; later blocks may
        contain some of them.
        """
        yield from self._tokens.blocks(RevocationTarget.TOKEN_ID)
        yield from self._unknown.blocks(RevocationTarget.TOKEN_ID, UNKNOWN_EXPIRY)
        yield from self._sessions.blocks(RevocationTarget.SESSION)

    def entries(self) -> Iterable[Revocation]:
        """Yield the entries that are not packed: keys, everything, and subjects and clients if their names are kept.

        The entry of a subject or client combines all entries for it.
        """
        if self._names:
            yield from self._subjects.entries(RevocationTarget.SUBJECT)
            yield from self._clients.entries(RevocationTarget.CLIENT)
        yield from tuple(self._keys.values())
        if self._everything is not None:
            yield self._everything

    def floors(self) -> Iterator[Floor]:
        """Yield the floors of subjects and clients, for `load_floor`."""
        yield from self._subjects.floors(RevocationTarget.SUBJECT)
        yield from self._clients.floors(RevocationTarget.CLIENT)

    def counts(self) -> dict[RevocationTarget, int]:
        """Return the number of live revocations of each kind."""
        return {
            RevocationTarget.TOKEN_ID: len(self._tokens) + len(self._unknown),
            RevocationTarget.SESSION: len(self._sessions),
            RevocationTarget.SUBJECT: len(self._subjects),
            RevocationTarget.CLIENT: len(self._clients),
            RevocationTarget.KEY: len(self._keys),
            RevocationTarget.EVERYTHING: int(self._everything is not None),
        }

    def __len__(self) -> int:
        """Return the number of live revocations."""
        return sum(self.counts().values())

    def _token_ids(self, number: int, expire_time: float) -> FingerprintSet:
        if number == UNKNOWN_EXPIRY:
            return self._unknown.at_expiry(expire_time)
        return self._tokens.at(number, expire_time)


def _joined(known: Revocation | None, entry: Revocation) -> Revocation:
    """Return the entry that revokes all tokens that either entry revokes.

    Sequence and times are joined separately, because the clocks behind the times need not follow the sequence.
    """
    if known is None:
        return entry
    later = entry if known.sequence <= entry.sequence else known
    return replace(
        later,
        revoke_time=max(known.revoke_time, entry.revoke_time),
        expire_time=max(known.expire_time, entry.expire_time),
    )


def _hits(sequence: int, revoke_time: float, claims: VerifiedClaims) -> bool:
    revision = claims.revision
    if revision is not None:
        return revision < sequence
    return claims.issue_time <= revoke_time

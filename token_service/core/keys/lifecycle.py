"""What should happen to the signing keys next. Decisions only: pure functions of the keys and the time.

    prepared -> active -> retired -> gone          any of the first three -> revoked

Invariants that make a rotation cause no outage:
- a key is published before it signs: it becomes active only after it was announced, unless nothing else can
  sign;
- a key stays published until the last token it signed has expired;
- each step is one compare-and-set of the whole key table, so a leader that dies between two steps, or two
  leaders at once, leave a state from which the next step follows.

Wall clocks jump, so what must not happen too early does not depend on them: a key signs, or goes, after a
node has watched it in its state for long enough itself. The wall clock only says when it is time for another
key.

A spare key is always prepared ahead, so that an emergency finds one that every validator knows already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY

PUBLISHED_AFTER_RETIREMENT: Final = MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY
"""Seconds a retired key stays published: no token it signed is valid longer."""
MAX_KEYS: Final = 64
"""So that a key set stays small enough for every validator. Beyond it the schedule waits until retired keys
have gone.
"""
_CLOCK_ERROR: Final = 300.0
"""Seconds by which the clocks of two nodes may differ. A record from further in the future was written by a
clock that has been set back since.
"""


@dataclass(frozen=True, slots=True)
class RotationRules:
    """When keys change. Seconds."""

    algorithm: Algorithm
    """What new tokens are signed with."""
    period: float
    """How long a key signs."""
    announce: float
    """How long a key is published before it signs, at least: the longest any validator caches a key set."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make a key and publish it."""

    algorithm: Algorithm
    activate: bool
    """Let it sign at once, because nothing else can."""


@dataclass(frozen=True, slots=True)
class Activate:
    """Let a key sign; the active key of the same algorithm retires."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a key sign no more."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Publish a key no more and delete it."""

    key_id: str


Step: TypeAlias = Prepare | Activate | Retire | Forget


def next_step(
    keys: Sequence[StoredSigningKey], now: float, rules: RotationRules, watched: Mapping[str, float]
) -> Step | None:
    """The next thing to do; None: nothing now.

    `watched` says for how many seconds whoever asks has seen each key in the state it is in, by a clock that
    does not jump.
    """
    of_algorithm = [key for key in keys if key.algorithm is rules.algorithm]
    active = newest(of_algorithm, SigningKeyState.ACTIVE)
    spare = oldest(of_algorithm, SigningKeyState.PREPARED)
    needed = not can_sign(keys)
    announced = spare is not None and watched.get(spare.key_id, 0.0) >= rules.announce
    if active is None:
        if spare is not None and (announced or needed):
            return Activate(spare.key_id)
        if spare is None and (needed or len(keys) < MAX_KEYS):
            # During a change of algorithm the old key signs on until the new one is announced.
            return Prepare(rules.algorithm, activate=needed)
    else:
        for key in keys:
            if key.state is SigningKeyState.ACTIVE and key.key_id != active.key_id:
                # Another algorithm's key, or one too many. Whoever still signs with it goes over to the
                # active one.
                return Retire(key.key_id)
        if spare is None and len(keys) < MAX_KEYS:
            return Prepare(rules.algorithm, activate=False)
        since = active.create_time if active.activate_time is None else active.activate_time
        if spare is not None and announced and is_due(since, now, rules.period):
            return Activate(spare.key_id)
    return next((Forget(key.key_id) for key in keys if _is_over(key, now, rules, watched)), None)


def is_due(since: float, now: float, period: float) -> bool:
    """Whether a period is over that began at `since`.

    A beginning in the future was written by a wrong clock; the period counts as over then.
    """
    return now >= since + period or since > now + _CLOCK_ERROR


def _is_over(key: StoredSigningKey, now: float, rules: RotationRules, watched: Mapping[str, float]) -> bool:
    """Whether nothing needs a key any more."""
    if key.state is SigningKeyState.RETIRED:
        return watched.get(key.key_id, 0.0) >= PUBLISHED_AFTER_RETIREMENT
    kept = max(rules.period, float(PUBLISHED_AFTER_RETIREMENT))
    if key.state is SigningKeyState.REVOKED:  # kept for a while for operators to see
        return now >= (key.create_time if key.revoke_time is None else key.revoke_time) + kept
    if key.state is SigningKeyState.PREPARED and key.algorithm is not rules.algorithm:
        return now >= key.create_time + kept  # left over from a change of algorithm; never signed
    return False


def announcement_left(
    key: StoredSigningKey, now: float, rules: RotationRules, watched: Mapping[str, float]
) -> float:
    """Seconds until every validator can be expected to know a prepared key; 0: it can be now.

    For operators, who trust the wall clock, too.
    """
    published = max(min(now - key.create_time, rules.announce), watched.get(key.key_id, 0.0), 0.0)
    return max(0.0, rules.announce - published)


def can_sign(keys: Sequence[StoredSigningKey]) -> bool:
    """Whether any key is active."""
    return any(key.state is SigningKeyState.ACTIVE for key in keys)


def signing_key(keys: Sequence[StoredSigningKey], algorithm: Algorithm) -> StoredSigningKey | None:
    """The key to sign with: the active one of the configured algorithm, otherwise the newest active one."""
    return newest([key for key in keys if key.algorithm is algorithm], SigningKeyState.ACTIVE) or newest(
        keys, SigningKeyState.ACTIVE
    )


def activated(keys: Sequence[StoredSigningKey], key_id: str, now: float) -> list[StoredSigningKey]:
    """The rows that change when a prepared key is activated: it, and the active keys of its algorithm that it
    replaces.
    """
    chosen = next(key for key in keys if key.key_id == key_id)
    replaced = [
        retired(key, now)
        for key in keys
        if key.state is SigningKeyState.ACTIVE and key.algorithm is chosen.algorithm and key.key_id != key_id
    ]
    return [replace(chosen, state=SigningKeyState.ACTIVE, activate_time=now), *replaced]


def successor(
    keys: Sequence[StoredSigningKey], leaving: StoredSigningKey, algorithm: Algorithm, now: float
) -> list[StoredSigningKey] | None:
    """The prepared key that takes over, active, from one that signs; an empty list if there is none, None if
    none is needed.
    """
    if leaving.state is not SigningKeyState.ACTIVE:
        return None
    others = [key for key in keys if key.key_id != leaving.key_id]
    if can_sign(others):
        return None
    spares = [key for key in others if key.algorithm is algorithm]
    spare = oldest(spares, SigningKeyState.PREPARED) or oldest(others, SigningKeyState.PREPARED)
    if spare is None:
        return []
    return [replace(spare, state=SigningKeyState.ACTIVE, activate_time=now)]


def retired(key: StoredSigningKey, now: float) -> StoredSigningKey:
    """The key, retired."""
    return replace(key, state=SigningKeyState.RETIRED, retire_time=now)


def newest(keys: Sequence[StoredSigningKey], state: SigningKeyState) -> StoredSigningKey | None:
    """The key of this state made last."""
    return max((key for key in keys if key.state is state), key=_age, default=None)


def oldest(keys: Sequence[StoredSigningKey], state: SigningKeyState) -> StoredSigningKey | None:
    """The key of this state made first."""
    return min((key for key in keys if key.state is state), key=_age, default=None)


def _age(key: StoredSigningKey) -> tuple[float, str]:
    return key.create_time, key.key_id

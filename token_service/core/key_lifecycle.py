"""What should happen to the signing keys next. Decisions only: pure functions of the keys and the time.

    prepared -> active -> retired -> gone          any of the first three -> revoked

Invariants that make a rotation cause no outage:
- a key is published before it signs: it becomes active only after it was announced, unless nothing else can sign;
- a key stays published until the last token it signed has expired;
- each step is one compare-and-set of the whole key table, so a leader that dies between two steps, or two leaders at once, leave
  a state from which the next step follows.

A spare key is always prepared ahead, so that an emergency finds one that every validator knows already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from token_service.core.ports import SigningKeyState, StoredSigningKey
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY

PUBLISHED_AFTER_RETIREMENT: Final = MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY
"""Seconds a retired key stays published: no token it signed is valid longer."""


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


def next_step(keys: Sequence[StoredSigningKey], now: float, rules: RotationRules) -> Step | None:
    """The next thing to do; None: nothing now."""
    of_algorithm = [key for key in keys if key.algorithm is rules.algorithm]
    active = newest(of_algorithm, SigningKeyState.ACTIVE)
    spare = oldest(of_algorithm, SigningKeyState.PREPARED)
    if active is None:
        if spare is not None and (is_announced(spare, now, rules) or not can_sign(keys)):
            return Activate(spare.key_id)
        if spare is None:
            # During a change of algorithm the old key signs on until the new one is announced.
            return Prepare(rules.algorithm, activate=not can_sign(keys))
    else:
        for key in keys:
            if key.state is SigningKeyState.ACTIVE and key.key_id != active.key_id:
                # Another algorithm's key, or one too many. Whoever still signs with it goes over to the active one.
                return Retire(key.key_id)
        if spare is None:
            return Prepare(rules.algorithm, activate=False)
        due = (active.activate_time or active.create_time) + rules.period
        if now >= due and is_announced(spare, now, rules):
            return Activate(spare.key_id)
    for key in keys:
        if (
            key.state is SigningKeyState.RETIRED
            and now >= (key.retire_time or now) + PUBLISHED_AFTER_RETIREMENT
        ):
            return Forget(key.key_id)
        if (
            key.state is SigningKeyState.PREPARED
            and key.algorithm is not rules.algorithm
            and now >= key.create_time + rules.period
        ):
            return Forget(key.key_id)  # left over from a change of algorithm; never signed
    return None


def is_announced(key: StoredSigningKey, now: float, rules: RotationRules) -> bool:
    """Whether every validator can be expected to know a prepared key."""
    return now >= key.create_time + rules.announce


def can_sign(keys: Sequence[StoredSigningKey]) -> bool:
    """Whether any key is active."""
    return any(key.state is SigningKeyState.ACTIVE for key in keys)


def signing_key(keys: Sequence[StoredSigningKey], algorithm: Algorithm) -> StoredSigningKey | None:
    """The key to sign with: the active one of the configured algorithm, otherwise the newest active one."""
    return newest([key for key in keys if key.algorithm is algorithm], SigningKeyState.ACTIVE) or newest(
        keys, SigningKeyState.ACTIVE
    )


def activated(keys: Sequence[StoredSigningKey], key_id: str, now: float) -> list[StoredSigningKey]:
    """The rows that change when a prepared key is activated: it, and the active keys of its algorithm that it replaces."""
    chosen = next(key for key in keys if key.key_id == key_id)
    replaced = [
        retired(key, now)
        for key in keys
        if key.state is SigningKeyState.ACTIVE and key.algorithm is chosen.algorithm and key.key_id != key_id
    ]
    return [replace(chosen, state=SigningKeyState.ACTIVE, activate_time=now), *replaced]


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

"""The lifecycle of signing keys: pure functions of the keys and the time that decide the next step.

    prepared -> active -> retired -> gone          any of the first three -> revoked

Invariants that prevent an outage during a rotation:
- a key is published before it signs: it becomes active only after its announce time, unless no other key can
  sign;
- a key stays published until the last token that it signed has expired;
- each step is one compare-and-set of the whole key table, so a leader that dies between two steps, or two
  concurrent leaders, leave a state from which the next step follows.

Wall clocks jump, so steps that must not happen too early do not depend on them: a key signs, or is deleted,
after a node has watched it in its state for long enough. The wall clock only decides when the next key is due.

A spare key is always prepared ahead, so that in an emergency every subscriber knows it already.
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
"""Seconds that a retired key stays published: no token that it signed is valid longer."""
MAX_KEYS: Final = 64
"""Maximal number of keys, which keeps the key set small. At the limit the schedule waits until retired keys are gone."""
_CLOCK_ERROR: Final = 300.0
"""Seconds by which the clocks of two nodes may differ. A clock that was set back since wrote any later record."""


@dataclass(frozen=True, slots=True)
class RotationRules:
    """The schedule of key changes. Times are in seconds."""

    algorithm: Algorithm
    """The algorithm that signs new tokens."""
    period: float
    """The time for which a key signs."""
    announce: float
    """Minimal time for which a key is published before it signs: the longest time a client caches a key set."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make a key and publish it."""

    algorithm: Algorithm
    activate: bool
    """Let the key sign at once, because no other key can."""


@dataclass(frozen=True, slots=True)
class Activate:
    """Let a key sign; the active key of the same algorithm retires."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Stop a key from signing."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Stop publishing a key and delete it."""

    key_id: str


Step: TypeAlias = Prepare | Activate | Retire | Forget


def next_step(
    keys: Sequence[StoredSigningKey], now: float, rules: RotationRules, watched: Mapping[str, float]
) -> Step | None:
    """Return the next step; None: no step is due.

    `watched` holds the seconds for which the node has seen each key in its current state, by a monotonic clock.
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
            # During a change of algorithm the old key keeps signing until the new key is announced.
            return Prepare(rules.algorithm, activate=needed)
    else:
        for key in keys:
            if key.state is SigningKeyState.ACTIVE and key.key_id != active.key_id:
                # A key of another algorithm, or a surplus one. A node that still signs with it changes to the
                # active key.
                return Retire(key.key_id)
        if spare is None and len(keys) < MAX_KEYS:
            return Prepare(rules.algorithm, activate=False)
        since = active.create_time if active.activate_time is None else active.activate_time
        if spare is not None and announced and is_due(since, now, rules.period):
            return Activate(spare.key_id)
    return next((Forget(key.key_id) for key in keys if _is_over(key, now, rules, watched)), None)


def is_due(since: float, now: float, period: float) -> bool:
    """Tell whether a period that began at `since` is over.

    A start in the future was written by a wrong clock; the period then counts as over.
    """
    return now >= since + period or since > now + _CLOCK_ERROR


def _is_over(key: StoredSigningKey, now: float, rules: RotationRules, watched: Mapping[str, float]) -> bool:
    """Tell whether a key is no longer needed."""
    if key.state is SigningKeyState.RETIRED:
        return watched.get(key.key_id, 0.0) >= PUBLISHED_AFTER_RETIREMENT
    kept = max(rules.period, float(PUBLISHED_AFTER_RETIREMENT))
    if key.state is SigningKeyState.REVOKED:  # operators can see it for a while
        return now >= (key.create_time if key.revoke_time is None else key.revoke_time) + kept
    if key.state is SigningKeyState.PREPARED and key.algorithm is not rules.algorithm:
        return now >= key.create_time + kept  # left over from a change of algorithm; never signed
    return False


def announcement_left(
    key: StoredSigningKey, now: float, rules: RotationRules, watched: Mapping[str, float]
) -> float:
    """Return the seconds until every client can be expected to know a prepared key; 0: now.

    Used for requests of operators, where the wall clock counts too.
    """
    published = max(min(now - key.create_time, rules.announce), watched.get(key.key_id, 0.0), 0.0)
    return max(0.0, rules.announce - published)


def can_sign(keys: Sequence[StoredSigningKey]) -> bool:
    """Tell whether any key is active."""
    return any(key.state is SigningKeyState.ACTIVE for key in keys)


def signing_key(keys: Sequence[StoredSigningKey], algorithm: Algorithm) -> StoredSigningKey | None:
    """Return the key to sign with: the active key of the configured algorithm, otherwise the newest active key."""
    return newest([key for key in keys if key.algorithm is algorithm], SigningKeyState.ACTIVE) or newest(
        keys, SigningKeyState.ACTIVE
    )


def activated(keys: Sequence[StoredSigningKey], key_id: str, now: float) -> list[StoredSigningKey]:
    """Return the rows changed by activating a prepared key: the key, and the active keys that it replaces."""
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
    """Return the prepared key that replaces a signing key, as an active row.

    Returns an empty list if no prepared key exists, and None if no replacement is needed.
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


def last_token_time(key: StoredSigningKey, now: float) -> float | None:
    """Return the time by which every token of a key has expired if it stops to sign at `now` at the latest.

    None: the key has never signed.
    """
    if key.state is SigningKeyState.PREPARED:
        return None
    ends = [now, *(each for each in (key.retire_time, key.revoke_time) if each is not None)]
    return min(ends) + PUBLISHED_AFTER_RETIREMENT


def retired(key: StoredSigningKey, now: float) -> StoredSigningKey:
    """Return the row of a key as retired."""
    return replace(key, state=SigningKeyState.RETIRED, retire_time=now)


def newest(keys: Sequence[StoredSigningKey], state: SigningKeyState) -> StoredSigningKey | None:
    """Return the newest key in this state."""
    return max((key for key in keys if key.state is state), key=_age, default=None)


def oldest(keys: Sequence[StoredSigningKey], state: SigningKeyState) -> StoredSigningKey | None:
    """Return the oldest key in this state."""
    return min((key for key in keys if key.state is state), key=_age, default=None)


def _age(key: StoredSigningKey) -> tuple[float, str]:
    return key.create_time, key.key_id

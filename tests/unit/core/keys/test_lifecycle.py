"""Decisions of the key lifecycle, step by step and for arbitrary tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.unit.core.virtual_time import START
from token_service.core.keys.lifecycle import (
    MAX_KEYS,
    PUBLISHED_AFTER_RETIREMENT,
    Activate,
    Forget,
    Prepare,
    Retire,
    RotationRules,
    Step,
    activated,
    announcement_left,
    can_sign,
    is_due,
    next_step,
    retired,
    signing_key,
)
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY

PREPARED, ACTIVE, RETIRED, REVOKED = (
    SigningKeyState.PREPARED,
    SigningKeyState.ACTIVE,
    SigningKeyState.RETIRED,
    SigningKeyState.REVOKED,
)
DAY = 86400.0
RULES = RotationRules(Algorithm.ES256, period=90 * DAY, announce=600.0)
LONG = 1e9


def a_key(key_id: str, state: SigningKeyState, at: float = 0.0, **changes: object) -> StoredSigningKey:
    """Return a key that entered its state `at` seconds after the start."""
    moment = START + at
    key = StoredSigningKey(
        key_id=key_id,
        algorithm=Algorithm.ES256,
        state=state,
        public_key=b"",
        private_key=b"",
        wrapping_key_id="",
        create_time=moment,
        activate_time=moment if state is ACTIVE else None,
        retire_time=moment if state is RETIRED else None,
        revoke_time=moment if state is REVOKED else None,
    )
    return replace(key, **changes)  # type: ignore[arg-type]


def decide(*keys: StoredSigningKey, at: float, watched: float | dict[str, float] = 0.0) -> Step | None:
    seen = watched if isinstance(watched, dict) else {key.key_id: watched for key in keys}
    return next_step(keys, START + at, RULES, seen)


# --- One step after the other -----------------------------------------------------------------------------------------


def test_missing_spare_is_prepared_at_once() -> None:
    assert decide(a_key("a", ACTIVE), at=0) == Prepare(Algorithm.ES256, activate=False)
    assert decide(a_key("a", ACTIVE), a_key("b", PREPARED), at=0) is None


def test_after_the_period_the_spare_signs() -> None:
    keys = [a_key("a", ACTIVE), a_key("b", PREPARED)]
    assert decide(*keys, at=RULES.period - 1, watched=LONG) is None
    assert decide(*keys, at=RULES.period, watched=LONG) == Activate("b")


def test_spare_signs_only_after_the_observed_announcement_at_any_clock() -> None:
    keys = [a_key("a", ACTIVE), a_key("b", PREPARED)]
    assert decide(*keys, at=RULES.period * 10, watched=RULES.announce - 1) is None
    assert decide(*keys, at=RULES.period * 10, watched=RULES.announce) == Activate("b")
    from_the_future = [keys[0], a_key("b", PREPARED, at=RULES.period * 10)]
    assert decide(*from_the_future, at=RULES.period, watched=RULES.announce) == Activate("b")


def test_the_oldest_spare_is_taken_first() -> None:
    keys = [a_key("a", ACTIVE), a_key("c", PREPARED, at=2), a_key("b", PREPARED, at=1)]
    assert decide(*keys, at=RULES.period, watched=LONG) == Activate("b")


def test_activating_retires_the_active_one_of_the_same_algorithm_in_the_same_change() -> None:
    other = a_key("o", ACTIVE, algorithm=Algorithm.RS256)
    keys = [a_key("a", ACTIVE), a_key("b", PREPARED), other]
    changed = activated(keys, "b", START + 5)
    assert [(key.key_id, key.state) for key in changed] == [("b", ACTIVE), ("a", RETIRED)]
    assert (changed[0].activate_time, changed[1].retire_time) == (START + 5, START + 5)


def test_new_key_signs_at_once_if_no_other_can() -> None:
    assert decide(at=0) == Prepare(Algorithm.ES256, activate=True)
    assert decide(a_key("a", REVOKED), at=0) == Prepare(Algorithm.ES256, activate=True)
    assert decide(a_key("a", REVOKED), a_key("b", PREPARED), at=0) == Activate("b")


def test_retired_key_is_removed_once_its_tokens_have_expired() -> None:
    assert PUBLISHED_AFTER_RETIREMENT >= MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY
    keys = [a_key("a", ACTIVE), a_key("b", PREPARED), a_key("r", RETIRED)]
    watched = {"a": LONG, "b": LONG, "r": PUBLISHED_AFTER_RETIREMENT - 1.0}
    # By the wall clock the key ended long ago, but that clock may have jumped.
    assert decide(*keys, at=80 * DAY, watched=watched) is None
    assert decide(*keys, at=0, watched={**watched, "r": PUBLISHED_AFTER_RETIREMENT}) == Forget("r")


def test_a_revoked_key_is_shown_for_a_period() -> None:
    keys = [a_key("a", ACTIVE, at=80 * DAY), a_key("b", PREPARED), a_key("x", REVOKED)]
    assert decide(*keys, at=RULES.period - 1, watched=LONG) is None
    assert decide(*keys, at=RULES.period, watched=LONG) == Forget("x")


def test_algorithm_changes_step_by_step() -> None:
    old = a_key("old", ACTIVE, algorithm=Algorithm.RS256)
    spare = a_key("spare", PREPARED, algorithm=Algorithm.RS256)
    # The old key signs on while the new one is announced.
    assert decide(old, spare, at=0, watched=LONG) == Prepare(Algorithm.ES256, activate=False)
    new = a_key("new", PREPARED)
    assert decide(old, spare, new, at=1, watched={"new": RULES.announce - 1}) is None
    assert decide(old, spare, new, at=1, watched={"new": RULES.announce}) == Activate("new")
    # Both sign now, each for the nodes configured with its algorithm.
    new = a_key("new", ACTIVE, at=1)
    assert signing_key([old, new], Algorithm.ES256) == new
    assert signing_key([old, new], Algorithm.RS256) == old
    assert decide(old, spare, new, at=1) == Retire("old")
    # Then nodes still configured with the old algorithm change over too.
    old = retired(old, START + 1)
    assert signing_key([old, new], Algorithm.RS256) == new
    another = a_key("another", PREPARED, at=2)
    assert decide(old, spare, new, another, at=2) is None
    # The remaining key of the old algorithm is removed later.
    assert decide(spare, new, another, at=RULES.period, watched=0.0) == Forget("spare")


def test_full_key_table_gets_a_new_key_only_when_required() -> None:
    many = [a_key(f"r{number}", RETIRED) for number in range(MAX_KEYS - 1)]
    assert decide(a_key("a", ACTIVE), *many, at=0) is None
    assert decide(a_key("a", REVOKED), *many, at=0) == Prepare(Algorithm.ES256, activate=True)
    assert decide(a_key("a", ACTIVE, algorithm=Algorithm.RS256), *many, at=0) is None


@pytest.mark.parametrize(
    ("since", "due"), [(0, False), (-99, False), (-100, True), (299, False), (301, True), (1e9, True)]
)
def test_a_period_that_begins_in_the_future_is_over(since: float, *, due: bool) -> None:
    """Otherwise a clock that was ahead once would stop the rotation for the time it was ahead."""
    assert is_due(START + since, START, 100) is due


def test_operator_waits_for_the_rest_of_the_announcement() -> None:
    key = a_key("a", PREPARED)
    assert announcement_left(key, START, RULES, {}) == 600
    assert announcement_left(key, START + 100, RULES, {}) == 500
    assert announcement_left(key, START + 100, RULES, {"a": 200}) == 400
    assert announcement_left(key, START + 600, RULES, {}) == 0
    # A clock that was set back does not lengthen the announcement.
    assert announcement_left(key, START - 9999, RULES, {}) == 600
    assert announcement_left(key, START - 9999, RULES, {"a": 600}) == 0


# --- Arbitrary tables ------------------------------------------------------------------------------------

TIMES = st.floats(-200 * DAY, 200 * DAY)
ALGORITHMS = st.sampled_from([Algorithm.ES256, Algorithm.RS256, Algorithm.EDDSA])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[StoredSigningKey], dict[str, float]]:
    states = draw(st.lists(st.sampled_from(list(SigningKeyState)), max_size=12))
    keys = [
        a_key(f"k{number}", state, at=draw(TIMES), algorithm=draw(ALGORITHMS))
        for number, state in enumerate(states)
    ]
    watched = {key.key_id: draw(st.floats(0, 2 * PUBLISHED_AFTER_RETIREMENT)) for key in keys}
    return keys, watched


def take(step: Step, keys: list[StoredSigningKey], now: float, number: int) -> list[StoredSigningKey]:
    """Return the table after a step."""
    if isinstance(step, Prepare):
        new = a_key(f"new{number}", PREPARED, at=now - START, algorithm=step.algorithm)
        return [*keys, activated([new], new.key_id, now)[0] if step.activate else new]
    if isinstance(step, Forget):
        return [key for key in keys if key.key_id != step.key_id]
    changed = (
        activated(keys, step.key_id, now)
        if isinstance(step, Activate)
        else [retired(key, now) for key in keys if key.key_id == step.key_id]
    )
    by_id = {key.key_id: key for key in changed}
    return [by_id.get(key.key_id, key) for key in keys]


@given(tables(), TIMES, ALGORITHMS, ALGORITHMS, st.floats(1, 100 * DAY), st.floats(0, DAY))
@example(([], {}), 0.0, Algorithm.ES256, Algorithm.RS256, 1.0, 0.0)
@settings(max_examples=400, deadline=None)
def test_from_any_table_a_few_steps_lead_to_one_that_needs_none(
    table: tuple[list[StoredSigningKey], dict[str, float]],
    at: float,
    algorithm: Algorithm,
    other: Algorithm,
    period: float,
    announce: float,
) -> None:
    keys, watched = table
    now = START + at
    rules = RotationRules(algorithm, period, announce)
    for number in range(3 * len(keys) + 4):
        step = next_step(keys, now, rules, watched)
        if step is None:
            break
        before = {key.key_id: key for key in keys}
        could_sign = can_sign(keys)
        keys = take(step, keys, now, number)
        # Changed keys are observed in their new state from now on.
        watched = {
            key.key_id: watched.get(key.key_id, 0.0) if before.get(key.key_id) in keys else 0.0
            for key in keys
        }
        assert can_sign(keys)
        after = {key.key_id for key in keys}
        for key in before.values():
            if key.state is ACTIVE:
                assert key.key_id in after
        if isinstance(step, Activate) and could_sign:
            assert table[1].get(step.key_id, 0.0) >= rules.announce
        if isinstance(step, Prepare):
            assert step.activate is not could_sign
        if isinstance(step, Forget):
            gone = before[step.key_id]
            assert gone.state is not ACTIVE
            if gone.state is RETIRED:
                assert table[1][step.key_id] >= PUBLISHED_AFTER_RETIREMENT
    else:
        pytest.fail("no end of steps")
    assert can_sign(keys)
    # A moment later nothing is due, except steps that only waited.
    signing = signing_key(keys, algorithm)
    assert signing is not None
    if not any(key.state is PREPARED and key.algorithm is algorithm for key in keys):
        assert len(keys) >= MAX_KEYS or signing.algorithm is algorithm
    # A node with another configuration does not undo the step before its own key was announced.
    against = next_step(keys, now, RotationRules(other, period, announce), dict.fromkeys(watched, 0.0))
    assert not isinstance(against, Activate) or announce == 0

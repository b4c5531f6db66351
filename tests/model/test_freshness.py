"""No validation that begins S after a revocation was acknowledged accepts the token, in any order of steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explorer import explore
from tests.model.freshness import STEPS, Fault, Model

BY_PROOF = Model(probes=1)
BY_SNAPSHOT = Model(probes=1, snapshots=1, delivers=False)
BY_ANSWER = Model(max_flights=1, others=1, delivers=False)


def test_a_revoked_token_is_never_accepted_too_late() -> None:
    taken: set[str] = set()
    for model in (BY_PROOF, BY_SNAPSHOT, BY_ANSWER):
        found = explore(model.initial(), model.successors, model.is_wrong)
        assert found.counterexample is None, "\n".join(found.counterexample)
        taken |= found.steps
    assert set(STEPS) - {"end"} <= taken, "some step was never taken"


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_the_model_finds_each_defect(fault: Fault) -> None:
    base = BY_ANSWER if fault is Fault.DATED_BY_JOINER else BY_PROOF
    model = replace(base, fault=fault)
    found = explore(model.initial(), model.successors, model.is_wrong)
    assert found.counterexample is not None

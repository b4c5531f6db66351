"""A hundred validators on one node. `scripts/faults scale` runs the trial with a thousand."""

from __future__ import annotations

import pytest

from tests.faults.scale import Scale

_MEBIBYTE = 2**20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_validators_follow_and_cost_the_node_little_memory() -> None:
    trial = Scale(subscribers=100, burst=1000, stalled=5, bound=6.0)
    found = trial.run(revocations=3)
    assert len(found.times) == 400
    # A hundred keep up on any machine; of a thousand on two processors, some are told to resume.
    assert found.stream_ends.keys() <= {"STREAM_ENDED"}
    assert trial.burst_growth < 64 * _MEBIBYTE
    assert max(found.memory.values()) < 512 * _MEBIBYTE

"""Short fault campaigns with a fixed seed: without a defect the campaign finds nothing; with a defect it finds it."""

from __future__ import annotations

import pytest

from tests.faults.campaign.conductor import Options, run
from tests.faults.campaign.defects import DEFECTS
from tests.faults.campaign.report import render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_short_campaign_finds_nothing() -> None:
    outcome = await run(Options(minutes=0.5, seed=11, size="small"))
    assert [str(finding) for finding in outcome.findings] == []
    judge = outcome.judge
    assert judge.freshness.accepted > 1000
    assert judge.kinds["revoked"] > 20
    assert judge.refreshes.count > 20
    assert judge.kinds["audited"] == judge.kinds["begun"]
    assert sum(judge.surroundings.count().values()) >= 3
    assert "**Findings: none.**" in render([outcome])


async def test_campaign_with_a_defect_finds_it() -> None:
    defect = DEFECTS["cache-unchecked"]
    outcome = await run(Options(minutes=2, seed=11, size="small", defect=defect.name, kinds=defect.kinds))
    assert outcome.findings[0].kind == "accepted as fresh after S"

from __future__ import annotations

import pytest

from tests.support.both_validators import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)

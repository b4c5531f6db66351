from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.web.ssf.receiver import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A node that transmits events, without receivers."""
    running = await Scene.start()
    yield running
    await running.app.close()

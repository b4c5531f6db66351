from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.web.console.console_app import ConsoleApp


@pytest.fixture
async def console() -> AsyncIterator[ConsoleApp]:
    """The console of a node on stores in memory. The operator has every permission."""
    running = await ConsoleApp.start()
    yield running
    await running.close()

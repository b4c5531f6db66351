from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.web.oauth.oauth_app import OAuthApp


@pytest.fixture
async def app() -> AsyncIterator[OAuthApp]:
    """The HTTP application of a node on stores in memory, without registered clients."""
    running = await OAuthApp.start()
    yield running
    await running.close()

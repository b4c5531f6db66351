from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.web.oauth.browser_login import Login
from tests.unit.web.oauth.oauth_app import OAuthApp


@pytest.fixture
async def app() -> AsyncIterator[OAuthApp]:
    """The HTTP application of a node on stores in memory, without registered clients."""
    running = await OAuthApp.start()
    yield running
    await running.close()


@pytest.fixture
async def login(app: OAuthApp) -> Login:
    """The same application with the client `app` and two login services."""
    return await Login.of(app)

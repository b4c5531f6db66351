from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.web.oauth.browser_login import REDIRECT, Login
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN


@pytest.fixture
async def app() -> AsyncIterator[OAuthApp]:
    """The HTTP application of a node on stores in memory, without registered clients."""
    running = await OAuthApp.start()
    yield running
    await running.close()


@pytest.fixture
async def login(app: OAuthApp) -> Login:
    """The same application with the client `app` and two login services."""
    await app.register_public(
        "app",
        grant_types=(AUTHORIZATION_CODE, REFRESH_TOKEN),
        redirect_uris=(REDIRECT, "https://app.example/other?x=1"),
        scopes=("openid", "read"),
        first_party=True,
    )
    return Login(app)

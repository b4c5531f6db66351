from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.oidc_provider import OidcProvider
from tests.unit.web.oauth.browser_login import Login
from tests.unit.web.oauth.oauth_app import OAuthApp
from tests.unit.web.oauth.oidc_site import Site
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
    return await Login.of(app)


@pytest.fixture
async def site(app: OAuthApp, tmp_path: Path) -> AsyncIterator[Site]:
    """An application with the upstreams `corporate` and `partner`."""
    await app.register_public(
        "app",
        grant_types=(AUTHORIZATION_CODE, REFRESH_TOKEN),
        redirect_uris=("https://app.example/cb",),
        scopes=("openid", "read"),
        first_party=True,
    )
    with OidcProvider(now=app.clock.now) as provider, OidcProvider(now=app.clock.now) as partner:
        yield Site(app, tmp_path, provider, partner)

"""An application whose upstreams are OpenID Connect providers on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tests.support.oidc_provider import CLIENT_SECRET, OidcProvider
from tests.unit.web.oauth.browser_login import ISSUER, Login, location
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.oidc_settings import OidcSettings
from token_service.core.login.upstreams import parse_upstreams
from token_service.core.sessions.session import Session
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.oidc_provider import HttpProvider
from token_service.fetching.remote_keys import RemoteKeys
from token_service.tokens.claims import VerifiedClaims

PRIVATE = FetchRules(allow_private=True)


class Site(Login):
    """An application with the client `app` and the upstreams `corporate` and `partner`."""

    def __init__(self, app: OAuthApp, tmp_path: Path, provider: OidcProvider, partner: OidcProvider) -> None:
        super().__init__(app)
        self.provider, self.partner = provider, partner
        self.secret = tmp_path / "secret"
        self.secret.write_text(f"{CLIENT_SECRET}\n")
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Begin with new adapters; `settings` are those of `corporate`."""
        table = {
            "corporate": self.provider.settings(str(self.secret), **settings),
            "partner": self.partner.settings(str(self.secret)),
        }
        self.app.node.core.login.upstreams.current = {
            name: self._upstream(each)
            for name, each in parse_upstreams({"upstreams": table}).items()
            if isinstance(each, OidcSettings)
        }

    def _upstream(self, settings: OidcSettings) -> OidcUpstream:
        clock = self.app.clock
        keys = RemoteKeys.discovered(settings.issuer, HttpFetcher(), clock, rules=PRIVATE)
        return OidcUpstream(settings, HttpProvider(settings, keys, clock), clock, service=ISSUER)

    @property
    def corporate(self) -> OidcUpstream:
        upstream = self.app.node.core.login.upstreams.current["corporate"]
        assert isinstance(upstream, OidcUpstream)
        return upstream

    async def url(self, browser: httpx.AsyncClient, **changes: Any) -> str:
        """Return the URL at the provider to which a login sends the browser."""
        begun = await self.begin(browser, **changes)
        return str(begun.headers["location"])

    async def back(self, url: str, provider: OidcProvider | None = None) -> str:
        """Return the URL of the callback, after the login at the provider."""
        return await asyncio.to_thread((provider or self.provider).log_in, url)

    async def answer(self, **changes: Any) -> dict[str, str]:
        """Return what the client gets after a whole login."""
        browser = self.browser()
        return location(await browser.get(await self.back(await self.url(browser, **changes))))

    async def session(self, **changes: Any) -> Session:
        """Return the session of a whole login and its code."""
        answer = await self.answer(**changes)
        return await self.session_of(answer["code"])

    async def session_of(self, code: str) -> Session:
        """Return the session that a code is exchanged for."""
        tokens = (await self.exchange(code)).json()
        claims = (await self.app.node.validate(tokens["access_token"])).claims
        assert isinstance(claims, VerifiedClaims)
        found = await self.app.node.stores.sessions.get(UUID(claims.session_id))
        assert found is not None
        return found

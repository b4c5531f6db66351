"""Devices of the client `tv`, their users' browsers, and the login service `inhouse`, around one or more nodes."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.unit.core.node import ISSUER
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import DEVICE_CODE, REFRESH_TOKEN
from token_service.core.login.challenge import AcceptCommand

LOGIN_PAGE = "https://login.example/in"
TV = {"grant_types": (DEVICE_CODE, REFRESH_TOKEN), "scopes": ("openid", "read"), "client_name": "Big <TV>"}


class DeviceScene:
    """One node as a device and a browser see it."""

    def __init__(self, app: OAuthApp) -> None:
        self.app = app
        upstreams = app.node.core.login.upstreams
        upstreams.current = {"inhouse": upstreams.challenge(LOGIN_PAGE)}

    @classmethod
    async def make(cls, app: OAuthApp) -> DeviceScene:
        """Return the scene around an application, with the public client `tv`."""
        await app.register_public("tv", **TV)
        return cls(app)

    async def authorize(
        self, client_id: str = "tv", scope: str = "openid read", **more: Any
    ) -> httpx.Response:
        return await self.app.post("/device_authorization", {"client_id": client_id, "scope": scope, **more})

    async def poll(self, device_code: str, client_id: str = "tv", **more: Any) -> httpx.Response:
        parameters = {
            "grant_type": DEVICE_CODE,
            "client_id": client_id,
            "device_code": device_code,
            **more,
        }
        return await self.app.post("/token", parameters)

    async def error(self, device_code: str, client_id: str = "tv") -> str:
        """Return the error of a poll."""
        answer = await self.poll(device_code, client_id)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"])

    def browser(self, address: str = "192.0.2.7") -> Browser:
        return Browser(self, address)

    async def accept(self, challenge: str, subject: str = "alice", **fields: Any) -> str:
        """Return the URL that the login service sends a browser to, after its user has logged in."""
        command = AcceptCommand(login_challenge=challenge, subject=subject, **fields)
        return await self.app.node.core.login.challenges.accept(
            Caller.system(), command, self.app.clock.now()
        )

    async def approve(self, user_code: str, subject: str = "alice", **fields: Any) -> httpx.Response:
        """Go through all pages in a new browser."""
        browser = self.browser()
        await browser.question(user_code, subject, **fields)
        return await browser.decide("approve")


class Browser:
    """A browser with cookies of its own, on the last page that it has loaded."""

    def __init__(self, scene: DeviceScene, address: str) -> None:
        self.scene = scene
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(scene.app.app, client=(address, 4711)),
            base_url=ISSUER,
            trust_env=False,
            follow_redirects=False,
        )
        self.page = httpx.Response(204)

    async def open(self, url: str = "/device") -> httpx.Response:
        self.page = await self.http.get(url)
        return self.page

    @property
    def ticket(self) -> str:
        """The ticket in the form of the page."""
        return field_of(self.page, "ticket")

    async def enter(self, user_code: str) -> httpx.Response:
        """Send the form with a code, on a new page."""
        await self.open()
        self.page = await self.http.post("/device", data={"ticket": self.ticket, "user_code": user_code})
        return self.page

    async def question(self, user_code: str, subject: str = "alice", **fields: Any) -> httpx.Response:
        """Enter a code, log in, and return the page that asks about the device."""
        await self.enter(user_code)
        return await self.open(await self.scene.accept(challenge_of(self.page), subject, **fields))

    async def decide(self, decision: str) -> httpx.Response:
        self.page = await self.http.post("/device", data={"ticket": self.ticket, "decision": decision})
        return self.page


def field_of(page: httpx.Response, name: str) -> str:
    """Return the value of an input of a page."""
    found = re.search(rf'<input[^>]* name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return unescape(found[1])


def challenge_of(page: httpx.Response) -> str:
    """Return the login challenge of the page that leads to the login service."""
    found = re.search(r'<a href="([^"]*)"', page.text)
    assert found is not None, page.text
    url = unescape(found[1])
    assert url.startswith(LOGIN_PAGE)
    return parse_qs(urlsplit(url).query)["login_challenge"][0]

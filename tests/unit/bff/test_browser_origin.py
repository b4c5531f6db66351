"""What the provider learns of the browser, and its demand for a new login."""

from __future__ import annotations

import httpx
import pytest

from tests.support.browser import PUBLIC_URL, Browser
from tests.support.fake_provider import FakeProvider
from tests.unit.bff.conftest import VirtualClock, World

LIFETIME = 300
TOLD = {"provider": {"tells_origin": True}}


async def renew(browser: Browser, clock: VirtualClock) -> int:
    clock.advance(LIFETIME + 1)
    return (await browser.fetch("/orders", User_Agent="Firefox/120")).status_code


async def test_login_and_renewal_tell_where_the_browser_is(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.bff(**TOLD) as bff, Browser(bff) as browser:
        transport = httpx.ASGITransport(bff, client=("2001:db8::5", 4711))
        browser.client = httpx.AsyncClient(
            transport=transport, base_url=PUBLIC_URL, timeout=60, headers={"User-Agent": "Firefox/120"}
        )
        await browser.log_in()
        assert await renew(browser, clock) == 200
    assert provider.origins == [("2001:db8::5", "http", "Firefox/120")] * 2


async def test_nothing_is_told_unless_it_is_asked_for(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        assert await renew(browser, clock) == 200
    assert [origin[:2] for origin in provider.origins] == [(None, None)] * 2
    assert not any("Firefox" in (origin[2] or "") for origin in provider.origins)


@pytest.mark.parametrize("agent", ["Firef\u00f6x", "two\tparts", ""])
async def test_unusual_user_agent_is_not_told(
    agent: str, world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser(**TOLD) as browser:
        browser.client.headers = httpx.Headers([(b"user-agent", agent.encode("latin-1"))])
        await browser.log_in()
    ((_, _, told),) = provider.origins
    assert agent == "" or agent not in (told or "")


async def test_demand_for_a_newer_authentication_ends_the_session(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        provider.demands_authentication = True
        clock.advance(LIFETIME + 1)
        assert (await browser.fetch("/orders")).json()["subject"] is None
        await browser.log_in()
        assert (await browser.fetch("/orders")).json()["subject"] == "alice"

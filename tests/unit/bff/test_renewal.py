"""Renewal of access tokens: one at a time, and never a reason to log a user out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeProvider
from tests.unit.bff.conftest import VirtualClock, World
from token_service.bff import MemorySessionStore, SessionRules
from token_service.bff.failures import GrantRefusedError
from token_service.bff.provider import TokenAnswer
from token_service.errors import StoreUnavailableError

LIFETIME = 300  # the provider's
AHEAD = 60


async def status(browser: Browser) -> tuple[int, Any]:
    response = await browser.fetch("/orders")
    return response.status_code, response.json()["subject"] if response.status_code == 200 else None


async def test_valid_token_is_not_renewed(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    clock.advance(LIFETIME - AHEAD - 1)
    assert await status(browser) == (200, "alice")
    assert provider.requests["/token"] == 1


async def test_token_is_renewed_ahead_without_waiting(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    clock.advance(LIFETIME - AHEAD)
    provider.refresh_gate.clear()
    assert await status(browser) == (200, "alice")  # while the provider has not answered
    provider.refresh_gate.set()
    await eventually(lambda: provider.families[0].refreshes == 1)
    clock.advance(AHEAD)
    assert await status(browser) == (200, "alice")
    assert provider.requests["/token"] == 2


async def test_short_lived_token_is_renewed_in_its_last_quarter(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    provider.access_lifetime = 40
    await browser.log_in()
    clock.advance(29)
    await status(browser)
    assert provider.requests["/token"] == 1
    clock.advance(1)
    await status(browser)
    await eventually(lambda: provider.families[0].refreshes == 1)


async def test_expired_token_is_renewed_before_the_application_sees_the_request(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    clock.advance(LIFETIME + 1)
    assert await status(browser) == (200, "alice")
    assert provider.families[0].refreshes == 1


async def test_tabs_share_one_renewal(browser: Browser, provider: FakeProvider, clock: VirtualClock) -> None:
    await browser.log_in()
    provider.accepts_retries = False  # a second use of the refresh token would end the session
    for _ in range(3):
        clock.advance(LIFETIME)
        answers = await asyncio.gather(*(status(browser) for _ in range(20)))
        assert set(answers) == {(200, "alice")}
    assert provider.families[0].refreshes == 3
    assert provider.concurrent_refreshes == 1


async def test_processes_share_one_renewal(world: World, provider: FakeProvider, clock: VirtualClock) -> None:
    provider.accepts_retries = False
    async with world.bff() as one, world.bff() as other, Browser(one) as browser, Browser(other) as second:
        await browser.log_in()
        second.client.cookies = browser.client.cookies
        for _ in range(3):
            clock.advance(LIFETIME)
            answers = await asyncio.gather(*(status(each) for each in [browser, second] * 5))
            assert set(answers) == {(200, "alice")}
    assert provider.families[0].refreshes == 3
    assert provider.concurrent_refreshes == 1


async def test_other_process_with_a_valid_token_does_not_wait(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.bff() as one, world.bff() as other, Browser(one) as browser, Browser(other) as second:
        await browser.log_in()
        second.client.cookies = browser.client.cookies
        clock.advance(LIFETIME - AHEAD)
        provider.refresh_gate.clear()
        assert await status(browser) == (200, "alice")
        await eventually(lambda: provider.families[0].refreshing == 1)
        assert await status(second) == (200, "alice")
        provider.refresh_gate.set()
    assert provider.families[0].refreshes == 1


async def test_lost_answer_is_retried_with_the_same_token(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    clock.advance(LIFETIME)
    provider.loses_answers = 1
    assert await status(browser) == (200, "alice")
    assert provider.families[0].refreshes == 2
    clock.advance(LIFETIME)
    assert await status(browser) == (200, "alice"), "the successor of the retry is the one that counts"


async def test_request_that_is_given_up_does_not_stop_its_renewal(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        clock.advance(LIFETIME)
        provider.accepts_retries = False
        provider.refresh_gate.clear()
        request = asyncio.create_task(status(browser))
        await eventually(lambda: provider.families[0].refreshing == 1)
        request.cancel()
        await asyncio.wait([request])
        provider.refresh_gate.set()
        assert await status(browser) == (200, "alice")
    assert provider.families[0].refreshes == 1


async def test_outage_of_the_provider_is_no_logout(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    provider.down = True
    clock.advance(LIFETIME - 1)
    assert await status(browser) == (200, "alice")  # the access token is still valid
    clock.advance(2)
    response = await browser.fetch("/orders")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "Set-Cookie" not in response.headers
    assert (await browser.fetch("/auth/session")).status_code == 503
    provider.down = False
    clock.advance(60)
    assert await status(browser) == (200, "alice")


async def test_provider_that_is_down_is_asked_ever_less_often(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    provider.down = True
    clock.advance(LIFETIME)
    for _ in range(60):
        assert (await browser.fetch("/orders")).status_code == 503
        clock.advance(1)
    assert 4 <= provider.requests["/token"] - 1 <= 8


async def test_refused_client_is_no_logout(
    world: World, provider: FakeProvider, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        clock.advance(LIFETIME)
        right = provider.authenticate
        provider.authenticate = lambda *_: right({}, "Basic d3Jvbmc6d3Jvbmc=")  # type: ignore[method-assign]
        assert (await status(browser))[0] == 503
        assert "check the client's registration" in caplog.text
        assert provider.complaints.pop() == "/token: wrong secret"
        provider.authenticate = right  # type: ignore[method-assign]
        clock.advance(60)
        assert await status(browser) == (200, "alice")


async def test_refused_refresh_token_ends_the_session(
    browser: Browser, provider: FakeProvider, clock: VirtualClock, world: World
) -> None:
    await browser.log_in()
    provider.families[0].revoked = True
    clock.advance(LIFETIME)
    assert await status(browser) == (200, None)
    assert (await browser.fetch("/auth/session")).status_code == 401
    assert world.store._sessions == {}


async def test_renewal_that_outlives_its_lease_is_no_logout(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.bff() as one, world.bff() as other, Browser(one) as browser, Browser(other) as second:
        await browser.log_in()
        second.client.cookies = browser.client.cookies
        clock.advance(LIFETIME)
        provider.refresh_gate.clear()
        late = asyncio.create_task(status(browser))
        await eventually(lambda: provider.families[0].refreshing == 1)
        clock.advance(1000)  # past the lease
        quick = asyncio.create_task(status(second))
        await eventually(lambda: provider.families[0].refreshing == 2)
        provider.refresh_gate.set()
        assert await late == (200, "alice")
        assert await quick == (200, "alice")
        assert await status(browser) == (200, "alice")


async def test_refusal_does_not_end_a_session_that_another_process_renewed(
    world: World, provider: FakeProvider, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped for longer than its lease sends a refresh token that the provider has forgotten."""
    continued = asyncio.Event()

    async def refused(refresh_token: str, origin: Mapping[str, str]) -> TokenAnswer:
        await continued.wait()
        raise GrantRefusedError("the provider refused the grant")

    async with world.bff() as one, world.bff() as other, Browser(one) as browser, Browser(other) as second:
        await browser.log_in()
        second.client.cookies = browser.client.cookies
        clock.advance(LIFETIME)
        with monkeypatch.context() as stopped:
            stopped.setattr(one._provider, "refresh", refused)
            late = asyncio.create_task(status(browser))
            await eventually(lambda: bool(world.store._leases))
            clock.advance(1000)
            assert await status(second) == (200, "alice")
            continued.set()
            assert await late == (200, "alice")
        assert await status(second) == (200, "alice")
    assert provider.families[0].refreshes == 1


async def test_process_that_died_in_a_renewal_delays_the_next_one_until_its_lease_ends(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        (key,) = world.store._sessions
        clock.advance(LIFETIME - AHEAD)
        await world.store.lease(key, "dead", clock.now(), clock.now() + AHEAD + 10)
        assert await status(browser) == (200, "alice")  # the access token is still valid
        clock.advance(AHEAD)
        waiting = asyncio.create_task(status(browser))
        await eventually(lambda: len(browser.app._renewal._flights) == 1)
        clock.advance(10)
        assert await waiting == (200, "alice")
    assert provider.families[0].refreshes == 1


async def test_session_without_refresh_token_ends_with_its_access_token(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    provider.gives_refresh_tokens = False
    await browser.log_in()
    clock.advance(LIFETIME - 1)
    assert await status(browser) == (200, "alice")
    clock.advance(1)
    assert await status(browser) == (200, None)
    assert provider.requests["/token"] == 1


async def test_provider_may_keep_the_refresh_token(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    provider.rotates = False
    await browser.log_in()
    for _ in range(2):
        clock.advance(LIFETIME)
        assert await status(browser) == (200, "alice")


async def test_claims_follow_the_id_token_of_a_renewal(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.browser(sessions=SessionRules(claims=("sub", "name"))) as browser:
        await browser.log_in()
        provider.refresh_id_token_changes = {"name": "Alice B."}
        clock.advance(LIFETIME)
        assert (await browser.fetch("/auth/session")).json()["claims"] == {"sub": "alice", "name": "Alice B."}
        provider.refresh_id_token_changes = {"name": "Mallory", "aud": "other"}
        clock.advance(LIFETIME)
        assert (await browser.fetch("/auth/session")).json()["claims"]["name"] == "Alice B."


async def test_id_token_of_another_subject_ends_the_session(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    provider.refresh_id_token_changes = {"sub": "mallory"}
    clock.advance(LIFETIME)
    assert await status(browser) == (200, None)


async def test_logout_during_a_renewal_stays_a_logout(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.bff() as bff, Browser(bff) as browser, Browser(bff) as tab:
        await browser.log_in()
        tab.client.cookies.set("__Host-session", browser.session_cookie or "", domain="app.test", path="/")
        clock.advance(LIFETIME)
        provider.refresh_gate.clear()
        waiting = asyncio.create_task(status(tab))
        await eventually(lambda: provider.families[0].refreshing == 1)
        assert (await browser.fetch("/auth/logout", "POST")).status_code == 200
        provider.refresh_gate.set()
        assert await waiting == (200, None)
        assert await status(tab) == (200, None)
    assert world.store._sessions == {}


class FailingStore(MemorySessionStore):
    """Fails the next writes of new tokens."""

    failures = 0

    async def replace(self, key: str, version: int, payload: str) -> bool:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError
        return await super().replace(key, version, payload)


@pytest.mark.parametrize(("failures", "expected"), [(2, 200), (3, 503)])
async def test_new_tokens_are_written_again_after_a_failure(
    world: World, provider: FakeProvider, clock: VirtualClock, failures: int, expected: int
) -> None:
    world.store = FailingStore()
    async with world.browser() as browser:
        await browser.log_in()
        clock.advance(LIFETIME)
        world.store.failures = failures
        assert (await status(browser))[0] == expected
        clock.advance(60)
        assert await status(browser) == (200, "alice"), "the superseded token gets the same successor"


async def test_closing_does_not_wait_for_another_process(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    async with world.bff() as bff, Browser(bff) as browser:
        await browser.log_in()
        (key,) = world.store._sessions
        clock.advance(LIFETIME)
        await world.store.lease(key, "other", clock.now(), clock.now() + 1000)
        waiting = asyncio.create_task(status(browser))
        await eventually(lambda: len(bff._renewal._flights) == 1)
        await bff.aclose()
        assert await waiting == (503, None)

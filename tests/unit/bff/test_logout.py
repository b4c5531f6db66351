"""Logout by the user and by the provider, and the attacks on the latter."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.browser import PUBLIC_URL, Browser
from tests.support.fake_provider import CLIENT_ID, LOGOUT_EVENT, FakeProvider
from tests.support.token_mint import Mint
from tests.unit.bff.conftest import VirtualClock, World
from token_service.bff import MemorySessionStore, ProviderLogout
from token_service.errors import StoreUnavailableError

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def subject(browser: Browser) -> str | None:
    return (await browser.fetch("/")).json()["subject"]


async def tell(browser: Browser, token: str) -> httpx.Response:
    """Send a logout token, as a provider does: without cookies and Origin."""
    async with httpx.AsyncClient(transport=browser.client._transport, base_url=PUBLIC_URL) as provider:
        return await provider.post("/auth/backchannel-logout", data={"logout_token": token})


async def test_logout_ends_the_session_the_tokens_and_the_one_at_the_provider(
    browser: Browser, provider: FakeProvider
) -> None:
    await browser.log_in()
    cookie = browser.session_cookie or ""
    response = await browser.client.post("/auth/logout", headers={"Origin": PUBLIC_URL})
    assert response.status_code == 303
    url = urlsplit(response.headers["Location"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{provider.issuer}/end_session"
    assert parse_qs(url.query) == {"client_id": [CLIENT_ID], "post_logout_redirect_uri": [f"{PUBLIC_URL}/"]}
    assert await browser.at_provider(response.headers["Location"]) == f"{PUBLIC_URL}/"
    assert browser.cookies == {}
    assert provider.families[0].revoked
    browser.client.cookies.set("__Host-session", cookie, domain="app.test", path="/")
    assert await subject(browser) is None


async def test_script_gets_the_url_to_navigate_to(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    response = await browser.fetch("/auth/logout", "POST")
    assert response.status_code == 200
    assert response.json()["location"].startswith(f"{provider.issuer}/end_session?")
    response = await browser.fetch("/auth/logout", "POST")
    assert (response.status_code, response.json()) == (200, {"location": "/"})


async def test_id_token_is_told_only_by_choice(world: World, provider: FakeProvider) -> None:
    async with world.browser(logout=ProviderLogout.PROVE) as browser:
        await browser.log_in()
        url = urlsplit((await browser.fetch("/auth/logout", "POST")).json()["location"])
        assert parse_qs(url.query)["id_token_hint"][0] in provider.issued
        assert provider.families[0].revoked


async def test_user_may_stay_logged_in_at_the_provider(world: World, provider: FakeProvider) -> None:
    async with world.browser(logout=ProviderLogout.REVOKE) as browser:
        await browser.log_in()
        assert (await browser.fetch("/auth/logout", "POST")).json() == {"location": "/"}
        assert provider.families[0].revoked
        assert await subject(browser) is None


async def test_provider_without_a_logout_endpoint_gets_a_revocation(
    world: World, provider: FakeProvider
) -> None:
    provider.metadata_changes = {"end_session_endpoint": ...}
    async with world.browser() as browser:
        await browser.log_in()
        assert (await browser.fetch("/auth/logout", "POST")).json() == {"location": "/"}
        assert provider.families[0].revoked


async def test_logout_works_while_the_provider_is_down(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    provider.down = True
    assert (await browser.fetch("/auth/logout", "POST")).json() == {"location": "/"}
    assert await subject(browser) is None


async def test_provider_ends_the_sessions_of_a_sid(world: World, provider: FakeProvider) -> None:
    async with world.bff() as bff, Browser(bff) as one, Browser(bff) as other:
        await one.log_in()
        provider.sid = "sid-2"
        await other.log_in()
        response = await tell(one, provider.logout_token(sid="sid-1", sub=...))
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["Cache-Control"] == "no-store"
        assert [await subject(one), await subject(other)] == [None, "alice"]


async def test_provider_ends_all_sessions_of_a_subject(world: World, provider: FakeProvider) -> None:
    async with world.bff() as bff, Browser(bff) as one, Browser(bff) as two, Browser(bff) as bob:
        await one.log_in()
        provider.sid = "sid-2"
        await two.log_in()
        provider.subject = "bob"
        await bob.log_in()
        assert (await tell(one, provider.logout_token(sub="alice", sid=...))).status_code == 200
        assert [await subject(each) for each in (one, two, bob)] == [None, None, "bob"]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.test"}, {"aud": "other"}, {"aud": [CLIENT_ID, "other"]}, {"aud": ...}, {"iat": ...},
        {"exp": ...}, {"jti": ...}, {"jti": ""}, {"jti": 7}, {"events": ...}, {"events": {}}, {"events": [LOGOUT_EVENT]},
        {"events": {LOGOUT_EVENT: True}}, {"events": {"http://schemas.openid.net/event/other": {}}}, {"nonce": "n"},
        {"nonce": None}, {"sub": ..., "sid": ...}, {"sub": 7}, {"sid": ""}, {"sid": ["sid-1"]},
    ],
)  # fmt: skip
async def test_invalid_logout_token_is_refused(
    browser: Browser, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    await browser.log_in()
    response = await tell(browser, provider.logout_token(**changes))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert await subject(browser) == "alice"


async def test_old_and_early_logout_tokens_are_refused(
    browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    now = int(clock.now())
    different: list[dict[str, Any]] = [
        {"exp": now},
        {"exp": now + 10_000},
        {"iat": now + 3600, "exp": now + 120},
        {"iat": now - 700},
        {"nbf": now + 3600},
    ]
    for times in different:
        assert (await tell(browser, provider.logout_token(**times))).status_code == 400, times
    assert await subject(browser) == "alice"


async def test_forged_logout_tokens_are_refused(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    own = Mint("ES256", "attacker", issuer=provider.issuer)
    claims = provider.mint.claims(provider.clock(), aud=CLIENT_ID, sub="alice", events={LOGOUT_EVENT: {}})
    good = provider.logout_token()
    head, payload, signature = good.split(".")
    confused = own.raw(b'{"alg":"HS256","typ":"logout+jwt"}', b"{}", str(provider.mint.jwk).encode())
    for token in (
        own.token(provider.clock(), {"typ": "logout+jwt"}, **claims),
        own.token(provider.clock(), {"typ": "logout+jwt", "kid": provider.mint.jwk["kid"]}, **claims),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        provider.logout_token({"alg": "none"}),
        provider.logout_token({"jwk": own.jwk}),
        provider.logout_token({"crit": ["exp"]}),
        provider.logout_token({"typ": "at+jwt"}),
        confused,
        "",
        "a.b.c",
        "é",
    ):
        assert (await tell(browser, token)).status_code == 400, token
    assert await subject(browser) == "alice"


async def test_id_token_is_no_logout_token(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    id_token = provider.id_token(provider.families[0], exp=int(provider.clock()) + 120)
    assert (await tell(browser, id_token)).status_code == 400
    assert await subject(browser) == "alice"


async def test_replayed_logout_token_does_not_end_a_new_session(
    browser: Browser, provider: FakeProvider
) -> None:
    await browser.log_in()
    token = provider.logout_token()
    assert (await tell(browser, token)).status_code == 200
    await browser.log_in()
    response = await tell(browser, token)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert await subject(browser) == "alice"


async def test_unusual_logout_requests_are_refused(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    token = provider.logout_token()
    path = "/auth/backchannel-logout"
    requests: list[tuple[str | bytes, dict[str, str]]] = [
        (f'{{"logout_token": "{token}"}}', {"Content-Type": "application/json"}),
        (f"logout_token={token}&logout_token={token}", FORM),
        (f"logout_token={token}", {"Content-Type": "text/plain"}),
        (f"other={token}", FORM),
        (b"logout_token=\xff", FORM),
        ("logout_token=" + "a" * 20_000, FORM),
    ]
    for content, headers in requests:
        response = await browser.client.post(path, content=content, headers=headers)
        assert response.status_code == 400
    assert (await browser.client.get(f"{path}?logout_token={token}")).status_code == 405
    assert await subject(browser) == "alice"


async def test_logout_token_of_a_new_key_is_accepted(
    world: World, browser: Browser, provider: FakeProvider, clock: VirtualClock
) -> None:
    await browser.log_in()
    provider.mint = Mint("ES256", "rotated", issuer=provider.issuer)
    clock.advance(11)  # an unknown key makes the keys be fetched again, but not at once
    assert (await tell(browser, provider.logout_token())).status_code == 200
    assert await subject(browser) is None


async def test_unknown_keys_do_not_flood_the_provider(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    fetched = provider.requests["/jwks"]
    other = Mint("ES256", "attacker", issuer=provider.issuer)
    for _ in range(20):
        await tell(browser, other.token(provider.clock()))
    assert provider.requests["/jwks"] <= fetched + 1


async def test_failed_logout_of_the_provider_is_a_400_and_can_be_repeated(
    world: World, provider: FakeProvider
) -> None:
    class Away(MemorySessionStore):
        away = False

        async def log_out(self, logout: Any, now: float) -> int | None:
            if self.away:
                raise StoreUnavailableError
            return await super().log_out(logout, now)

    world.store = Away()
    async with world.browser() as browser:
        await browser.log_in()
        token = provider.logout_token()
        world.store.away = True
        response = await tell(browser, token)
        assert (response.status_code, response.json()["error"]) == (400, "temporarily_unavailable")
        world.store.away = False
        assert (await tell(browser, token)).status_code == 200
        assert await subject(browser) is None

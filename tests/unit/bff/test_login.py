"""Login: what it gives, and the attacks on it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.browser import PUBLIC_URL, Browser
from tests.support.fake_provider import CLIENT_ID, FakeProvider
from tests.unit.bff.conftest import VirtualClock, World
from token_service.bff import PrivateKeyJwt, RequestRules, SameSite
from token_service.bff.cookies import MAX_COOKIE, MAX_COOKIE_HEADER, MAX_LOGINS

SESSION_ATTRIBUTES = "; Path=/; Secure; HttpOnly; SameSite=Lax"


async def subject(browser: Browser) -> str | None:
    response = await browser.fetch("/orders")
    assert response.status_code == 200
    return response.json()["subject"]


def changed(url: str, **changes: str | None) -> str:
    """Return a URL with other parameters in its query."""
    parameters = dict(parse_qsl(urlsplit(url).query)) | changes
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{url.partition('?')[0]}?{query}"


async def test_login_begins_a_session_and_returns_to_the_path(browser: Browser) -> None:
    assert await subject(browser) is None
    response = await browser.log_in("/orders?page=2#top")
    assert (response.status_code, response.headers["Location"]) == (303, "/orders?page=2#top")
    assert response.headers["Cache-Control"] == "no-store"
    cookies = response.headers.get_list("Set-Cookie")
    assert cookies[0] == f"__Host-session={browser.session_cookie}{SESSION_ATTRIBUTES}"
    assert len(browser.session_cookie or "") == 43
    answer = (await browser.fetch("/orders")).json()
    assert answer == {"subject": "alice", "token_kind": "at-", "cookies": {}}
    assert list(browser.cookies) == ["__Host-session"], "the login cookie is deleted"


async def test_authorization_request_has_what_the_standards_want(browser: Browser) -> None:
    response = await browser.navigate("/auth/login")
    parameters = parse_qs(urlsplit(response.headers["Location"]).query)
    assert parameters["redirect_uri"] == [f"{PUBLIC_URL}/auth/callback"]
    assert parameters["code_challenge_method"] == ["S256"]
    assert all(len(parameters[name][0]) == 43 for name in ("state", "nonce", "code_challenge"))
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-session-login-{parameters['state'][0][:22]}=")
    assert cookie.endswith("; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax")
    for name in ("state", "nonce"):
        assert parameters[name][0] not in cookie


async def test_client_authenticates_with_private_key_jwt(world: World, provider: FakeProvider) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    provider.client_key = key.public_key()
    async with world.browser(provider={"client": PrivateKeyJwt(CLIENT_ID, key, "key-1")}) as browser:
        await browser.log_in()
        assert await subject(browser) == "alice"


async def test_request_is_pushed_if_the_provider_demands_it(world: World, provider: FakeProvider) -> None:
    provider.metadata_changes = {"require_pushed_authorization_requests": True}
    async with world.browser() as browser:
        url = await browser.begin_login()
        assert parse_qs(urlsplit(url).query).keys() == {"client_id", "request_uri"}
        await browser.navigate(await browser.at_provider(url), site="cross-site")
        assert await subject(browser) == "alice"


async def test_strict_cookie_is_sent_after_a_login(world: World) -> None:
    async with world.browser(requests=RequestRules(same_site=SameSite.STRICT)) as browser:
        begin = await browser.navigate("/auth/login")
        assert begin.headers["Set-Cookie"].endswith("SameSite=Lax"), "the callback comes from another site"
        response = await browser.navigate(
            await browser.at_provider(begin.headers["Location"]), site="cross-site"
        )
        # A redirect would belong to the provider's navigation, and the browser would withhold the cookie.
        assert response.status_code == 200
        assert '<meta http-equiv="refresh" content="0;url=/">' in response.text
        assert response.headers.get_list("Set-Cookie")[0].endswith("SameSite=Strict")


@pytest.mark.parametrize(
    "target",
    [
        "//evil.test", "/\\evil.test", "\\\\evil.test", "\\/evil.test", "https://evil.test", "https:evil.test",
        "javascript:alert(1)", "evil.test", "", "/%2fevil.test", "/%2Fevil.test/x", "/%5cevil.test", "/%255cevil.test",
        "/%252fevil.test", "/\t/evil.test", "/\n/evil.test", "/ /evil.test", "/.//evil.test", "/..//evil.test", "/a/../b",
        "/%0d%0aSet-Cookie:x=y", "/\r\nSet-Cookie: x=y", "/ü", "/a\x00", "///evil.test", "/a//b", "/auth/login",
        "/auth", "/%61uth/login", '/"><script>', "/" + "a" * 1024,
    ],
)  # fmt: skip
async def test_return_to_never_leads_elsewhere(browser: Browser, target: str) -> None:
    response = await browser.navigate(f"/auth/login?return_to={quote(target, safe='')}")
    assert response.status_code == 400
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("target", ["/", "/a/b/", "/authors", "/a?x=//y&z=%2F", "/a;v=1#/b", "/caf%C3%A9"])
async def test_return_to_may_be_any_path_of_the_application(browser: Browser, target: str) -> None:
    assert (await browser.log_in(target)).headers["Location"] == target


async def test_repeated_or_long_parameters_are_refused(browser: Browser) -> None:
    for query in ("return_to=/a&return_to=/b", "x=" + "a" * 9000, "&".join(f"a{i}=" for i in range(30))):
        assert (await browser.navigate(f"/auth/login?{query}")).status_code == 400


async def test_login_is_only_a_navigation(browser: Browser) -> None:
    response = await browser.fetch("/auth/login", Sec_Fetch_Mode="no-cors", Sec_Fetch_Site="cross-site")
    assert response.status_code == 400
    assert browser.cookies == {}


async def test_callback_of_another_browser_begins_no_session(world: World) -> None:
    async with world.bff() as bff, Browser(bff) as attacker, Browser(bff) as victim:
        callback = await attacker.at_provider(await attacker.begin_login())
        response = await victim.navigate(callback, site="cross-site")
        assert response.status_code == 400
        assert victim.cookies == {}
        # Not even while the victim has a login of its own in progress.
        await victim.begin_login()
        assert (await victim.navigate(callback, site="cross-site")).status_code == 400
        assert await subject(victim) is None


async def test_callback_with_the_code_of_another_login_is_refused(world: World) -> None:
    """The nonce and the PKCE challenge bind the code to the login (code injection)."""
    async with world.bff() as bff, Browser(bff) as attacker, Browser(bff) as victim:
        stolen = parse_qs(urlsplit(await victim.at_provider(await victim.begin_login())).query)["code"][0]
        own = await attacker.at_provider(await attacker.begin_login())
        response = await attacker.navigate(changed(own, code=stolen), site="cross-site")
        assert response.status_code == 503  # the fake provider answers invalid_request
        assert attacker.session_cookie is None
    assert world.provider.complaints == ["/token: wrong code_verifier"]
    world.provider.complaints.clear()


async def test_replayed_callback_is_refused_and_the_session_stays(
    browser: Browser, provider: FakeProvider
) -> None:
    url = await browser.begin_login()
    login_cookies = browser.cookies
    callback = await browser.at_provider(url)
    assert (await browser.navigate(callback, site="cross-site")).status_code == 303
    assert (await browser.navigate(callback, site="cross-site")).status_code == 400
    # Neither with a copy of the login cookie: the code is not sent a second time, which would revoke the tokens.
    for name, value in login_cookies.items():
        browser.client.cookies.set(name, value, domain="app.test", path="/")
    assert (await browser.navigate(callback, site="cross-site")).status_code == 400
    assert provider.requests["/token"] == 1
    assert await subject(browser) == "alice"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"iss": "https://evil.test"}, 400),
        ({"iss": None}, 400),
        ({"state": None}, 400),
        ({"state": "x" * 43}, 400),
        ({"state": "ü"}, 400),
        ({"code": None}, 400),
        ({"code": "unknown"}, 400),
        ({"code": None, "error": "access_denied"}, 400),
        ({"code": None, "error": "<script>"}, 400),
    ],
)
async def test_changed_callback_is_refused(
    browser: Browser, changes: dict[str, str | None], status: int
) -> None:
    callback = changed(await browser.at_provider(await browser.begin_login()), **changes)
    response = await browser.navigate(callback, site="cross-site")
    assert response.status_code == status
    assert browser.session_cookie is None
    assert "<script>" not in response.text
    assert ("(access_denied)" in response.text) == (changes.get("error") == "access_denied")


async def test_mixed_up_answer_does_not_reach_the_token_endpoint(
    browser: Browser, provider: FakeProvider
) -> None:
    callback = await browser.at_provider(await browser.begin_login())
    await browser.navigate(changed(callback, iss="https://evil.test"), site="cross-site")
    assert provider.requests["/token"] == 0


async def test_issuer_may_be_missing_if_the_provider_never_names_it(
    world: World, provider: FakeProvider
) -> None:
    provider.metadata_changes = {"authorization_response_iss_parameter_supported": ...}
    provider.answer_changes = {"iss": None}
    async with world.browser() as browser:
        assert (await browser.log_in()).status_code == 303
        provider.answer_changes = {"iss": "https://evil.test"}
        assert (await browser.log_in()).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"}, {"nonce": ...}, {"iss": "https://evil.test"}, {"aud": "other"}, {"aud": [CLIENT_ID, "other"]},
        {"azp": "other"}, {"sub": ...}, {"sub": ""}, {"sub": 7}, {"exp": 1}, {"exp": ...}, {"iat": ...}, {"sub": "a" * 256},
    ],
)  # fmt: skip
async def test_invalid_id_token_begins_no_session(
    browser: Browser, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    provider.id_token_changes = changes
    assert (await browser.log_in()).status_code == 400
    assert browser.session_cookie is None


async def test_forged_id_token_begins_no_session(
    browser: Browser, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = provider.id_token

    def forged(*args: Any, **changes: Any) -> str:
        head, _, signature = real(*args, **changes).split(".")
        return f"{head}.{real(*args, **{**changes, 'sub': 'admin'}).split('.')[1]}.{signature}"

    monkeypatch.setattr(provider, "id_token", forged)
    assert (await browser.log_in()).status_code == 400
    assert browser.session_cookie is None


async def test_login_ends_the_previous_session(browser: Browser, provider: FakeProvider) -> None:
    await browser.log_in()
    first = browser.session_cookie
    provider.subject = "bob"
    await browser.log_in()
    assert browser.session_cookie != first
    assert await subject(browser) == "bob"
    browser.client.cookies.set("__Host-session", first or "", domain="app.test", path="/")
    assert await subject(browser) is None


async def test_login_ends_the_previous_session_whose_cookie_the_callback_lacks(
    world: World, browser: Browser
) -> None:
    """A navigation that the provider began has no `Strict` cookies."""
    await browser.log_in()
    url = await browser.begin_login()
    browser.client.cookies.delete("__Host-session")
    await browser.navigate(await browser.at_provider(url), site="cross-site")
    assert await subject(browser) == "alice"
    assert len(world.store._sessions) == 1


async def test_planted_session_id_is_never_adopted(browser: Browser) -> None:
    planted = "A" * 43
    browser.client.cookies.set("__Host-session", planted, domain="app.test", path="/")
    assert await subject(browser) is None
    await browser.log_in()
    assert browser.session_cookie != planted
    browser.client.cookies.clear()
    browser.client.cookies.set("__Host-session", planted, domain="app.test", path="/")
    assert await subject(browser) is None


async def test_tabs_log_in_at_the_same_time(browser: Browser) -> None:
    urls = [await browser.begin_login(f"/tab/{number}") for number in range(MAX_LOGINS)]
    for number in reversed(range(MAX_LOGINS)):
        response = await browser.navigate(await browser.at_provider(urls[number]), site="cross-site")
        assert response.headers["Location"] == f"/tab/{number}"


async def test_further_login_replaces_the_oldest_one(browser: Browser, clock: VirtualClock) -> None:
    urls = []
    browser.client.cookies.set(f"__Host-session-login-{'x' * 22}", "tossed", domain="app.test", path="/")
    for _ in range(MAX_LOGINS + 1):
        urls.append(await browser.begin_login())
        clock.advance(1)
    assert len(browser.cookies) == MAX_LOGINS
    first, last = [await browser.at_provider(urls[number]) for number in (0, -1)]
    assert (await browser.navigate(first, site="cross-site")).status_code == 400
    assert (await browser.navigate(last, site="cross-site")).status_code == 303


async def test_login_takes_ten_minutes_at_most(browser: Browser, clock: VirtualClock) -> None:
    callback = await browser.at_provider(await browser.begin_login())
    clock.advance(600)
    assert (await browser.navigate(callback, site="cross-site")).status_code == 400


async def test_cookies_of_two_values_or_of_wrong_form_are_no_session(world: World) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        cookie = f"__Host-session={browser.session_cookie}"
        browser.client.cookies.clear()
        for header, expected in [
            (cookie, "alice"),
            (f"a=b; {cookie}; c", "alice"),
            (f"{cookie}; {cookie}", None),
            (f"{cookie}; __Host-session={'A' * 43}", None),
            (f"{cookie}x", None),
            (cookie.replace("__Host-", ""), None),
        ]:
            assert (await browser.fetch("/", Cookie=header)).json()["subject"] == expected, header


async def test_oversized_cookies_are_refused(browser: Browser) -> None:
    response = await browser.fetch("/", Cookie="a=" + "b" * MAX_COOKIE_HEADER)
    assert response.status_code == 431
    callback = await browser.at_provider(await browser.begin_login())
    name = next(iter(browser.cookies))
    browser.client.cookies.set(name, "a" * (MAX_COOKIE + 1), domain="app.test", path="/")
    assert (await browser.navigate(callback, site="cross-site")).status_code == 400


async def test_login_cookies_stay_below_the_limit_of_browsers(browser: Browser) -> None:
    response = await browser.navigate(f"/auth/login?return_to=/{'%25' * 340}")
    assert response.status_code == 303
    assert len(response.headers["Set-Cookie"]) < MAX_COOKIE


async def test_login_without_the_provider_is_unavailable(world: World, provider: FakeProvider) -> None:
    provider.down = True
    async with world.browser() as browser:
        response = await browser.navigate("/auth/login")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
        provider.down = False
        callback = await browser.at_provider(await browser.begin_login())
        provider.down = True
        response = await browser.navigate(callback, site="cross-site")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "7")


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": ...},
        {"token_endpoint": "http://evil.test/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://x.test/a\r\nSet-Cookie: a=b"},
        {"jwks_uri": 7},
        {"code_challenge_methods_supported": ["plain"]},
        {"id_token_signing_alg_values_supported": ["HS256", "none"]},
        {"token_endpoint_auth_methods_supported": ["client_secret_post"]},
    ],
)
async def test_unusable_provider_is_refused(
    world: World, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    provider.metadata_changes = changes
    async with world.browser() as browser:
        assert (await browser.navigate("/auth/login")).status_code == 503

"""What a request of the application gets: its session, and protection from requests of other origins."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from tests.support.browser import PUBLIC_URL, Browser
from tests.support.fake_provider import FakeProvider
from tests.unit.bff.conftest import VirtualClock, World, application
from token_service.bff import (
    BackendForFrontend,
    ClientSecretBasic,
    MemorySessionStore,
    RequestRules,
    SessionRules,
    session_of,
)
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.tokens.secret import Secret

EVIL = "https://evil.test"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": PUBLIC_URL}, True),
        ({"Origin": PUBLIC_URL, "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({}, False),
        ({"Origin": EVIL}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": f"{PUBLIC_URL}.evil.test"}, False),
        ({"Origin": f"{PUBLIC_URL}:8443"}, False),
        ({"Origin": "http://app.test"}, False),
        ({"Origin": f"{PUBLIC_URL}/"}, False),
        ({"Origin": PUBLIC_URL.upper()}, False),
        ({"Origin": PUBLIC_URL, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": PUBLIC_URL, "Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": EVIL, "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Referer": f"{PUBLIC_URL}/"}, False),
    ],
)
async def test_unsafe_request_must_come_from_the_origin(
    world: World, headers: dict[str, str], *, allowed: bool
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        for method in ("POST", "PUT", "DELETE", "PATCH", "post"):
            response = await browser.client.request(method, "/orders", headers=headers)
            assert (response.status_code != 403) == allowed, method
        response = await browser.client.post("/auth/logout", headers=headers)
        assert (response.status_code == 303) == allowed


async def test_two_origins_are_refused(browser: Browser) -> None:
    headers = [("Origin", PUBLIC_URL), ("Origin", PUBLIC_URL)]
    assert (await browser.client.post("/orders", headers=headers)).status_code == 403


async def test_forged_logout_leaves_the_session(browser: Browser) -> None:
    await browser.log_in()
    response = await browser.client.post("/auth/logout", headers={"Origin": EVIL})
    assert response.status_code == 403
    assert (await browser.client.get("/auth/logout")).status_code == 405
    assert (await browser.fetch("/")).json()["subject"] == "alice"


async def test_safe_requests_need_no_origin(browser: Browser) -> None:
    await browser.log_in()
    assert (await browser.navigate("/", site="cross-site")).json()["subject"] == "alice"
    assert (await browser.client.options("/", headers={"Origin": EVIL})).status_code == 200


async def test_header_of_choice_is_required(world: World) -> None:
    async with world.browser(requests=RequestRules(csrf_header="x-csrf")) as browser:
        assert (await browser.fetch("/orders", "POST")).status_code == 403
        assert (await browser.fetch("/auth/logout", "POST")).status_code == 403
        assert (await browser.fetch("/orders", "POST", X_CSRF="1")).status_code == 200
        assert (await browser.fetch("/orders")).status_code == 200


async def test_path_open_to_other_origins_has_no_session(world: World) -> None:
    async with world.browser(requests=RequestRules(cross_origin_paths=["/hook"])) as browser:
        await browser.log_in()
        response = await browser.client.post("/hook", headers={"Origin": EVIL})
        assert response.json()["subject"] is None
        for path in (
            "/hook/",
            "/hook/x",
            "/%68ook%2Fx",
            "/hook;x",
            "/hook%3Fx",
            "//hook",
            "/x/%2e%2e/hook",
            "/%2568ook",
        ):
            response = await browser.client.post(path, headers={"Origin": EVIL})
            assert response.status_code == 403, path


class Socket:
    """The client side of a WebSocket handshake in ASGI."""

    def __init__(self, browser: Browser, **headers: str) -> None:
        sent = {"cookie": f"__Host-session={browser.session_cookie}", **headers}
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/feed",
            "raw_path": b"/feed",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        }
        self.sent: list[MutableMapping[str, Any]] = []

    async def receive(self) -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"origin": PUBLIC_URL}, True),
        ({"origin": EVIL}, False),
        ({"origin": "null"}, False),
        ({"origin": "null", "sec_fetch_site": "same-origin"}, False),
        ({}, False),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"origin": PUBLIC_URL, "sec_fetch_site": "cross-site"}, False),
    ],
)
async def test_websocket_must_come_from_the_origin(
    world: World, headers: dict[str, str], *, allowed: bool
) -> None:
    """Browsers send cookies with handshakes of any origin (cross-site WebSocket hijacking)."""
    subjects = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = session_of(scope)
        assert session is not None
        assert (await session.access_token()).startswith("at-")
        assert await session.is_active()
        subjects.append(session.subject)
        await send({"type": "websocket.accept"})

    async with world.bff(app) as bff, Browser(bff) as browser:
        await browser.log_in()
        socket = Socket(browser, **headers)
        await bff(socket.scope, socket.receive, socket.send)
        expected = {"type": "websocket.accept"} if allowed else {"type": "websocket.close", "code": 1008}
        assert socket.sent == [expected]
        assert subjects == (["alice"] if allowed else [])


async def test_websocket_learns_of_a_logout(world: World, clock: VirtualClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = session_of(scope)
        assert session is not None
        assert await session.is_active()
        await browser.fetch("/auth/logout", "POST")
        assert not await session.is_active()
        clock.advance(300)
        await session.access_token()

    async with world.bff(app) as bff, Browser(bff) as browser:
        await browser.log_in()
        socket = Socket(browser, origin=PUBLIC_URL)
        with pytest.raises(Exception, match="log in again"):
            await bff(socket.scope, socket.receive, socket.send)


async def test_refused_websocket_gets_an_http_answer_where_the_server_can(world: World) -> None:
    async with world.bff() as bff, Browser(bff) as browser:
        socket = Socket(browser, origin=EVIL)
        socket.scope["extensions"] = {"websocket.http.response": {}}
        await bff(socket.scope, socket.receive, socket.send)
        assert [message["type"] for message in socket.sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert socket.sent[0]["status"] == 403


async def test_application_sees_its_own_cookies_alone(browser: Browser) -> None:
    await browser.log_in()
    await browser.begin_login()
    browser.client.cookies.set("theme", "dark", domain="app.test", path="/")
    assert (await browser.fetch("/")).json()["cookies"] == {"theme": "dark"}


async def test_session_endpoint_shows_the_chosen_claims(world: World, clock: VirtualClock) -> None:
    async with world.browser(sessions=SessionRules(claims=("sub", "name", "missing"))) as browser:
        response = await browser.fetch("/auth/session")
        assert (response.status_code, response.json()) == (401, {"authenticated": False})
        await browser.log_in()
        clock.advance(100)
        response = await browser.fetch("/auth/session")
        assert response.json() == {
            "authenticated": True,
            "claims": {"name": "Alice", "sub": "alice"},
            "expires_in": 3500,
        }
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        for site in ("cross-site", "same-site"):
            assert (await browser.fetch("/auth/session", Sec_Fetch_Site=site)).status_code == 403


async def test_session_ends_when_it_is_idle(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    provider.access_lifetime = 100_000
    async with world.browser(sessions=SessionRules(idle_timeout=1000, absolute_timeout=5000)) as browser:
        await browser.log_in()
        for _ in range(4):
            clock.advance(940)
            assert (await browser.fetch("/")).json()["subject"] == "alice"
        # The session endpoint, which a tab may poll forever, does not count.
        for _ in range(9):
            clock.advance(100)
            assert (await browser.fetch("/auth/session")).status_code == 200
        clock.advance(100)
        assert (await browser.fetch("/auth/session")).status_code == 401
        assert (await browser.fetch("/")).json()["subject"] is None


async def test_session_ends_at_its_absolute_time(
    world: World, provider: FakeProvider, clock: VirtualClock
) -> None:
    provider.access_lifetime = 100_000
    async with world.browser(sessions=SessionRules(idle_timeout=1000, absolute_timeout=2000)) as browser:
        await browser.log_in()
        for expected in ("alice", "alice", "alice", None):
            clock.advance(500)
            assert (await browser.fetch("/")).json()["subject"] == expected


async def test_idle_time_is_not_written_at_every_request(world: World, clock: VirtualClock) -> None:
    class CountingStore(MemorySessionStore):
        touches = 0

        async def touch(self, key: str, idle_expire_time: float) -> None:
            self.touches += 1
            await super().touch(key, idle_expire_time)

    world.store = CountingStore()
    async with world.browser() as browser:
        await browser.log_in()
        for _ in range(200):
            clock.advance(1)
            await browser.fetch("/")
        assert world.store.touches == 1


async def test_user_has_the_chosen_number_of_sessions(world: World) -> None:
    async with world.bff(sessions=SessionRules(per_user=2)) as bff:
        browsers = [Browser(bff) for _ in range(3)]
        for browser in browsers:
            world.clock.advance(1)
            await browser.log_in()
        subjects = [(await browser.fetch("/")).json()["subject"] for browser in browsers]
        assert subjects == [None, "alice", "alice"]
        for browser in browsers:
            await browser.client.aclose()


async def test_unavailable_store_is_no_logout(world: World) -> None:
    class Away(MemorySessionStore):
        away = False

        async def load(self, key: str, now: float) -> Any:
            if self.away:
                raise StoreUnavailableError(retry_after=3)
            return await super().load(key, now)

    world.store = Away()
    async with world.browser() as browser:
        await browser.log_in()
        world.store.away = True
        for path, method in (("/", "GET"), ("/auth/session", "GET"), ("/auth/logout", "POST")):
            response = await browser.fetch(path, method)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "3")
            assert "Set-Cookie" not in response.headers
        world.store.away = False
        assert (await browser.fetch("/")).json()["subject"] == "alice"


async def test_store_holds_neither_session_id_nor_token_nor_user(
    world: World, provider: FakeProvider
) -> None:
    async with world.browser() as browser:
        await browser.log_in()
        stored = repr(world.store._sessions) + "".join(
            each.payload + each.subject + each.sid for each in world.store._sessions.values()
        )
        for secret in (*provider.issued, browser.session_cookie or "-", "alice", "sid-1"):
            assert secret not in stored


async def test_keys_rotate_without_a_logout(world: World) -> None:
    old, new = Secret(b"k" * 32), Secret(b"n" * 32)
    async with world.bff() as bff, Browser(bff) as browser:
        await browser.log_in()
        for keys, active, status, subject in [
            ({1: old, 2: new}, 1, 200, "alice"),
            ({1: old, 2: new}, 2, 200, "alice"),
            ({2: new}, 2, 200, None),
        ]:
            config = world.config(keys=keys, active_key=active)
            later = BackendForFrontend(application(), config, world.store, clock=world.clock)
            async with later, Browser(later) as again:
                again.client.cookies = browser.client.cookies
                response = await again.fetch("/")
                assert (response.status_code, response.json()["subject"]) == (status, subject)


async def test_session_of_a_newer_key_is_no_logout(world: World) -> None:
    keys = {1: Secret(b"k" * 32), 2: Secret(b"n" * 32)}
    async with (
        world.bff(keys=keys, active_key=2) as newer,
        world.bff() as older,
        Browser(newer) as browser,
        Browser(older) as behind,
    ):
        await browser.log_in()
        behind.client.cookies = browser.client.cookies
        assert (await behind.fetch("/")).status_code == 503
        assert (await browser.fetch("/")).json()["subject"] == "alice"


async def test_content_counts_only_at_its_place_in_the_store(world: World, provider: FakeProvider) -> None:
    async with world.bff() as bff, Browser(bff) as attacker, Browser(bff) as victim:
        provider.subject = "mallory"
        await attacker.log_in()
        (own,) = world.store._sessions
        provider.subject = "alice"
        await victim.log_in()
        (other,) = world.store._sessions.keys() - {own}
        await world.store.replace(own, 1, world.store._sessions[other].payload)
        assert (await attacker.fetch("/")).json()["subject"] is None


async def test_paths_below_the_prefix_belong_to_the_endpoints(browser: Browser) -> None:
    for path in ("/auth", "/auth/", "/auth/other", "/auth/login/", "/auth/../auth/loginx"):
        assert (await browser.fetch(path)).status_code == 404, path
    response = await browser.fetch("/auth/login", "POST")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET")
    assert (await browser.fetch("/authors")).status_code == 200


async def test_other_connections_are_refused(world: World) -> None:
    async with world.bff() as bff:
        with pytest.raises(ConfigurationError, match="'mqtt'"):
            await bff({"type": "mqtt"}, None, None)  # type: ignore[arg-type]


async def test_lifespan_of_the_application_runs_and_closes_the_connections(world: World) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    bff = BackendForFrontend(app, world.config(), world.store, clock=world.clock)
    async with Browser(bff) as browser:
        await browser.begin_login()
        client = bff._provider._transport._client
        assert client is not None
        await bff({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
        assert client.is_closed
        assert seen == ["lifespan"]
        await browser.begin_login()  # which opens new ones
        await bff.aclose()


async def test_applications_that_share_a_store_do_not_share_sessions(
    world: World, provider: FakeProvider
) -> None:
    other = ClientSecretBasic("other app", Secret(b"another secret"))
    rules = SessionRules(per_user=1)
    async with world.browser(sessions=rules) as browser:
        await browser.log_in()
        async with world.bff(provider={"client": other}, sessions=rules) as bff, Browser(bff) as foreign:
            foreign.client.cookies = browser.client.cookies
            assert (await foreign.fetch("/")).json()["subject"] is None
            token = provider.logout_token(aud="other app")
            told = await foreign.client.post("/auth/backchannel-logout", data={"logout_token": token})
            assert told.status_code == 200
        assert (await browser.fetch("/")).json()["subject"] == "alice"

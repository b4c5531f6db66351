"""No token reaches a browser, a log or a `repr`."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.fake_provider import CLIENT_SECRET, FakeProvider
from tests.unit.bff.conftest import KEY, VirtualClock, World
from token_service.bff import session_of


async def test_no_token_reaches_the_browser_or_the_log(
    world: World, provider: FakeProvider, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cookies = set()
    async with world.browser() as browser:
        for fault in ("", "iss", "nonce", "down", "revoked"):
            provider.answer_changes = {"iss": "https://evil.test"} if fault == "iss" else {}
            provider.id_token_changes = {"nonce": "wrong"} if fault == "nonce" else {}
            await browser.log_in("/orders")
            provider.down = fault == "down"
            if fault == "revoked":
                provider.families[-1].revoked = True
            for path, method in [
                ("/orders", "GET"), ("/auth/session", "GET"), ("/orders", "POST"), ("/auth/session", "GET"),
                ("/auth/logout", "POST"), ("/auth/session", "GET"), ("/auth/other", "GET"),
            ]:  # fmt: skip
                clock.advance(301)
                cookies |= set(browser.cookies.values())
                await browser.fetch(path, method)
            provider.down = False
        received = "\n".join(browser.received)
    assert len(provider.issued) > 10
    seen = received + unquote(received) + "\n".join(cookies)
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for token in provider.issued:
        assert token not in seen
        assert token not in logged
        # Nor the payload of a JWT alone.
        assert token.split(".")[-1] not in seen + logged
    for secret in (CLIENT_SECRET, *cookies):
        assert secret not in logged, "no client secret, no session id and no login state either"


async def test_reprs_show_no_token(world: World, provider: FakeProvider) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = session_of(scope)
        assert session is not None
        seen.extend([repr(session), repr(session._opened), repr(session._opened.content)])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with world.browser(app) as browser:
        await browser.log_in()
        await browser.fetch("/")
        shown = "".join(seen) + repr(world.config()) + repr(world.store._sessions)
        assert "alice" in shown
        for secret in (*provider.issued, CLIENT_SECRET, KEY.reveal().decode(), browser.session_cookie or "-"):
            assert secret not in shown

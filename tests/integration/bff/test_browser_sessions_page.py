"""docs/browser-sessions.md: its application runs, its stores open, and its table has every limit."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tour import DOCS, section
from tests.support.browser import Browser
from tests.support.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider
from token_service.bff import (
    BackendForFrontend,
    ClientSecretBasic,
    MemorySessionStore,
    Provider,
    SessionRules,
    cookies,
    exchange,
    held,
    login_state,
    provider,
    provider_tokens,
    renewal,
    return_to,
    sessions,
    transport,
)  # fmt: skip
from token_service.tokens.secret import Secret

PAGE = (DOCS / "browser-sessions.md").read_text(encoding="utf-8")
APPLICATION, STORES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_application_of_the_page_logs_a_user_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)
    monkeypatch.setenv("SESSION_KEY", "00" * 32)
    names: dict[str, Any] = {"__name__": "shop"}
    exec(APPLICATION, names)
    shown = names["config"]
    for uri in (shown.redirect_uri, shown.post_logout_redirect_uri):
        assert f"`{uri}`" in PAGE
    with FakeProvider(shown.redirect_uri, shown.post_logout_redirect_uri) as fake:
        # The provider of the page does not exist.
        client = ClientSecretBasic(CLIENT_ID, Secret(CLIENT_SECRET.encode()))
        there = replace(shown.provider, issuer=fake.issuer, client=client, timeout=20.0)
        app = BackendForFrontend(names["app"]._app, replace(shown, provider=there), MemorySessionStore())
        async with app, Browser(app, shown.public_url) as browser:
            refused = await browser.fetch("/orders")
            assert refused.status_code == 401
            url = (await browser.navigate(refused.json()["login"])).headers["Location"]
            done = await browser.navigate(await browser.at_provider(url), site="cross-site")
            assert done.headers["Location"] == "/orders"
            assert (await browser.fetch("/orders")).json() == {"user": "alice", "can_call_apis": True}
        assert fake.complaints == []


async def test_stores_of_the_page_open(tmp_path: Path, redis_url: str) -> None:
    names: dict[str, Any] = {"__name__": "stores"}
    exec(STORES, names)
    store = await names["sql_store"](f"sqlite+aiosqlite:///{tmp_path}/sessions.db")
    assert await store.load("none", 0.0) is None
    await store._engine.dispose()
    store = names["redis_store"](redis_url)
    assert await store.load("none", 0.0) is None
    await store._client.aclose()


def test_page_lists_every_limit_with_its_default() -> None:
    start, end = section(PAGE, "limits")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \| [^|]+ \| [^|]+ \|$", PAGE[start:end], re.MULTILINE))
    code: dict[str, object] = {
        name: value
        for module in (
            cookies, exchange, held, login_state, provider, provider_tokens, renewal, return_to, sessions, transport,
        )
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, int | float)
    }  # fmt: skip
    code |= {each.name: each.default for each in fields(SessionRules) if each.name != "claims"}
    code["timeout"] = next(each.default for each in fields(Provider) if each.name == "timeout")
    del code["NONCE_BYTES"]  # of another module
    shown = {name: "none" if value is None else str(value).removesuffix(".0") for name, value in code.items()}
    assert rows == shown

"""An OpenID Connect provider over HTTP: how often it is asked, and what bounds its answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.support.raw_http_server import RawHttpServer
from tests.unit.core.virtual_time import ManualClock
from token_service.core.login.oidc_provider import ProviderRefusedError
from token_service.core.login.oidc_settings import parse_oidc
from token_service.errors import UpstreamUnavailableError
from token_service.fetching import oidc_provider
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.oidc_provider import MAX_SECRET, UPSTREAM_LAST_GOOD, HttpProvider, read_secret
from token_service.fetching.remote_keys import RemoteKeys
from token_service.urls import UnusableValueError

DISCOVERY = "/.well-known/openid-configuration"
FORM = {"grant_type": "authorization_code", "code": "c0de"}


@pytest.fixture
def server() -> Iterator[OidcProvider]:
    with OidcProvider() as server:
        yield server


def provider(server: OidcProvider, tmp_path: Path, clock: ManualClock, **settings: Any) -> HttpProvider:
    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET)
    parsed = parse_oidc("corporate", server.settings(str(secret), **settings))
    keys = RemoteKeys.discovered(server.issuer, HttpFetcher(), clock, rules=FetchRules(allow_private=True))
    return HttpProvider(parsed, keys, clock)


async def test_metadata_are_loaded_once_for_concurrent_logins(server: OidcProvider, tmp_path: Path) -> None:
    made = provider(server, tmp_path, ManualClock())
    found = await asyncio.gather(*(made.discover() for _ in range(5)))
    assert server.requests == [DISCOVERY]
    assert len(set(found)) == 1
    assert found[0].names_issuer
    assert found[0].end_session_endpoint == f"{server.issuer}/logout"


async def test_cancelled_login_ends_the_load_for_no_other_one(server: OidcProvider, tmp_path: Path) -> None:
    made = provider(server, tmp_path, ManualClock())
    server.open.clear()
    first, second = asyncio.create_task(made.discover()), asyncio.create_task(made.discover())
    await asyncio.sleep(0)
    first.cancel()
    server.open.set()
    assert (await second).token_endpoint == f"{server.issuer}/token"
    assert server.requests == [DISCOVERY]


async def test_last_metadata_stay_while_the_provider_is_down(server: OidcProvider, tmp_path: Path) -> None:
    clock = ManualClock()
    made = provider(server, tmp_path, clock)
    found = await made.discover()
    server.raw[DISCOVERY] = (503, b"{}")
    clock.elapsed += 600
    assert await made.discover() == found
    asked = len(server.requests)
    assert await made.discover() == found
    assert len(server.requests) == asked, "each login asked again"
    clock.elapsed += UPSTREAM_LAST_GOOD
    with pytest.raises(UpstreamUnavailableError) as caught:
        await made.discover()
    assert caught.value.retry_after == 1
    del server.raw[DISCOVERY]
    clock.elapsed += 1
    assert await made.discover() == found


async def test_new_metadata_count_after_their_lifetime(server: OidcProvider, tmp_path: Path) -> None:
    clock = ManualClock()
    made = provider(server, tmp_path, clock)
    await made.discover()
    server.metadata["token_endpoint"] = f"{server.issuer}/new"
    clock.elapsed += 599
    assert (await made.discover()).token_endpoint == f"{server.issuer}/token"
    clock.elapsed += 1
    assert (await made.discover()).token_endpoint == f"{server.issuer}/new"


@pytest.mark.parametrize("path", ["/token", "/userinfo"])
async def test_slow_answer_is_given_up(
    server: OidcProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    made = provider(server, tmp_path, ManualClock())
    with RawHttpServer(lambda connection: slow.drip(connection, b"HTTP/1.1 200 OK\r\nX: ", b"x")) as slow:
        name = f"{path[1:]}_endpoint"
        server.metadata[name] = slow.url
        await made.discover()
        monkeypatch.setattr(oidc_provider, "UPSTREAM_TIMEOUT", 0.3)
        with pytest.raises(UpstreamUnavailableError):
            await (made.exchange(FORM) if path == "/token" else made.userinfo("t"))
        assert slow.requests == 1


async def test_log_names_the_cause_once_and_no_secret(
    server: OidcProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = provider(server, tmp_path, ManualClock())
    (tmp_path / "secret").write_text("wr0ng")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            with pytest.raises(ProviderRefusedError, match="invalid_client"):
                await made.exchange(FORM)
    assert [record.getMessage() for record in caplog.records] == [
        "logins at upstreams.corporate fail: the token endpoint answered with the error invalid_client"
    ]
    server.raw["/token"] = (400, b'{"error": "x\\ny"}')
    with pytest.raises(ProviderRefusedError):
        await made.exchange(FORM)
    assert "\n" not in caplog.text.splitlines()[-1]
    assert "x\\ny" in caplog.text
    server.raw["/token"] = (200, b"c0de and no JSON")
    with pytest.raises(UpstreamUnavailableError) as caught:
        await made.exchange(FORM)
    assert "c0de" not in caplog.text + str(caught.value)
    assert "wr0ng" not in caplog.text


async def test_refused_code_is_no_complaint(
    server: OidcProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ProviderRefusedError, match="invalid_grant"):
        await provider(server, tmp_path, ManualClock()).exchange(FORM)
    assert caplog.records == []


async def test_private_provider_needs_the_setting(tmp_path: Path) -> None:
    with OidcProvider() as server:
        server.issuer = "https://127.0.0.1:1"
        made = provider(server, tmp_path, ManualClock(), private=False)
        with pytest.raises(UpstreamUnavailableError):
            await made.discover()
    for issuer in ("https://user@a.example", "https://a.example?x", "https://a.example:0"):
        settings = parse_oidc(
            "x", {"kind": "oidc", "issuer": issuer, "client_id": CLIENT_ID, "client_secret_file": "s"}
        )
        with pytest.raises(UnusableValueError):
            HttpProvider(settings, made, ManualClock())


@pytest.mark.parametrize("content", [b"", b" \n", b"a\nb", b"\xff", b"x" * (MAX_SECRET + 1)])
def test_unusable_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(FetchError, match=r"has no client secret|larger than"):
        read_secret(str(path))
    with pytest.raises(FetchError, match="can't be read"):
        read_secret(str(tmp_path / "missing"))

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.deadline import eventually
from tests.support.raw_http_server import RawHttpServer, send
from tests.unit.core.virtual_time import ManualClock
from tests.unit.fetching.serving import KeyServer, Resolver, authorities, serving
from token_service.core.access.key_sources import KeySource
from token_service.errors import ForeignKeysUnavailableError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.held_keys import Pace
from token_service.fetching.remote_keys import PACE, RemoteKeys
from token_service.tokens.key_set import KeySet
from token_service.urls import UnusableValueError

PRIVATE = FetchRules(allow_private=True)


def remote(server: KeyServer, clock: ManualClock | None = None) -> RemoteKeys:
    return RemoteKeys(server.url(), HttpFetcher(), clock or ManualClock(), rules=PRIVATE)


def discovered(issuer: str, rules: FetchRules = PRIVATE) -> RemoteKeys:
    return RemoteKeys.discovered(issuer, HttpFetcher(), ManualClock(), rules=rules)


def kids(keys: KeySet) -> set[str]:
    return {key.key_id for key in keys}


async def test_rotation_is_noticed_by_the_unknown_key() -> None:
    async with serving() as server, remote(server) as source:
        server.publish("old")
        assert kids(await source.keys("old")) == {"old"}
        server.publish("old", "new")
        assert kids(await source.keys("new")) == {"old", "new"}
        for number in range(5):
            await source.keys(f"unknown {number}")
        assert server.paths == ["/jwks"] * 2


async def test_answer_is_kept_as_long_as_its_headers_say() -> None:
    clock = ManualClock()
    async with serving() as server, remote(server, clock) as source:
        server.publish("a", Cache_Control="max-age=100")
        await source.keys("a")
        clock.elapsed += 79.0
        await source.keys("a")
        assert len(server.requests) == 1
        server.publish("b")
        clock.elapsed += 21.0
        assert kids(await source.keys("a")) == {"b"}
        clock.elapsed += 479.0
        assert kids(await source.keys("b")) == {"b"}
        assert len(server.requests) == 2


async def test_concurrent_callers_share_one_request_and_one_may_leave() -> None:
    async with serving() as server, remote(server) as source:
        server.publish("a")
        server.open.clear()
        callers = [asyncio.ensure_future(source.keys("a")) for _ in range(10)]
        await eventually(lambda: server.requests)
        callers[0].cancel()
        server.open.set()
        found = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert [kids(keys) for keys in found[1:] if isinstance(keys, KeySet)] == [{"a"}] * 9
        assert len(server.requests) == 1


async def test_last_keys_stay_while_the_server_fails(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    async with serving() as server, remote(server, clock) as source:
        server.publish("a")
        first = await source.keys("a")
        server.replies.clear()
        caplog.set_level(logging.INFO)
        clock.elapsed = 600.0
        assert await source.keys("a") is first
        (line,) = caplog.messages
        assert (
            f"the keys of {server.url()} can't be loaded: 127.0.0.1:{server.port} answered with status 404"
            in line
        )
        assert line.endswith("the last keys stay in force for 3600 s at most")
        clock.elapsed = 4200.0
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")


async def test_slow_body_ends_with_the_time_of_the_whole_fetch(caplog: pytest.LogCaptureFixture) -> None:
    assert PACE.timeout == 5.0
    pace = Pace(timeout=0.5, unknown_key_interval=10.0, longest_retry=10.0, last_good=3600.0)
    server = RawHttpServer(send(b""))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    server.respond = lambda connection: server.drip(connection, head, b" ")
    with server:
        async with RemoteKeys(server.url, HttpFetcher(), ManualClock(), rules=PRIVATE, pace=pace) as source:
            with pytest.raises(ForeignKeysUnavailableError):
                await source.keys("a")
    assert "no complete answer within 0.5 s" in caplog.text


async def test_private_address_of_a_url_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    fetcher = HttpFetcher(Resolver(["169.254.169.254"]))
    source: KeySource = RemoteKeys("https://keys.example/jwks", fetcher, ManualClock())
    with pytest.raises(ForeignKeysUnavailableError) as caught:
        await source.keys("a")
    assert "keys.example is 169.254.169.254, which is not a global address" in caplog.text
    assert "169.254" not in caught.value.message


@pytest.mark.parametrize("url", ["http://keys.example/jwks", "https://user:SECRET@keys.example/"])
def test_unusable_url_is_refused_before_any_fetch(url: str) -> None:
    for make in (RemoteKeys, RemoteKeys.discovered):
        with pytest.raises(UnusableValueError) as caught:
            make(url, HttpFetcher(), ManualClock())
        assert "SECRET" not in str(caught.value)


async def test_discovery_leads_to_the_keys_of_the_issuer() -> None:
    async with serving() as server:
        for issuer, path in (
            (server.url("/tenant"), "/tenant"),
            (server.url("/other/"), "/other"),
            (server.url(""), ""),
        ):
            server.discovery(issuer, server.url("/keys"), path)
            server.publish("a", path="/keys")
            server.requests.clear()
            async with discovered(issuer) as source:
                assert kids(await source.keys("a")) == {"a"}
            assert server.paths == [f"{path}/.well-known/openid-configuration", "/keys"]


async def test_discovery_of_another_issuer_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, discovered(server.url("/tenant")) as source:
        server.discovery(server.url("/tenant/"), server.url("/keys"), "/tenant")
        server.publish("a", path="/keys")
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")
        assert server.paths == ["/tenant/.well-known/openid-configuration"]
        assert "the discovery document is of another issuer" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/keys", "ftp://keys.example/", "https://user:SECRET@keys.example/", "/keys"]
)
async def test_discovered_url_follows_the_same_rules(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, discovered(server.url("")) as source:
        server.discovery(server.url(""), url)
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")
        assert len(server.requests) == 1
    assert "SECRET" not in caplog.text


async def test_issuer_may_move_its_keys() -> None:
    async with serving() as server, discovered(server.url("")) as source:
        server.discovery(server.url(""), server.url("/old"))
        server.publish("a", path="/old")
        await source.keys("a")
        server.discovery(server.url(""), server.url("/new"))
        server.publish("b", path="/new")
        assert kids(await source.keys("b")) == {"b"}


def test_issuer_has_no_query() -> None:
    with pytest.raises(UnusableValueError, match="a query"):
        discovered("https://issuer.example/?tenant=a")


async def test_issuer_in_a_cluster_is_asked_with_its_authority_and_a_token(tmp_path: Path) -> None:
    authority = Authority()
    token = tmp_path / "token"
    token.write_text("service.account.token")
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, authority), bearer_token=token)
    async with serving(authority.server("kubernetes.default.svc"), tmp_path) as server:
        issuer = server.url("", "kubernetes.default.svc")
        server.discovery(issuer, f"{issuer}/openid/v1/jwks")
        server.publish("a", path="/openid/v1/jwks")
        fetcher = HttpFetcher(Resolver(["127.0.0.1"]))
        async with RemoteKeys.discovered(issuer, fetcher, ManualClock(), rules=rules) as source:
            assert kids(await source.keys("a")) == {"a"}
        assert [headers["authorization"] for _, headers in server.requests] == [
            "bearer service.account.token"
        ] * 2

from __future__ import annotations

import pytest

from token_service.urls import RedisKind, RedisUrl, UnusableValueError


@pytest.mark.parametrize(
    ("text", "kind", "addresses", "driver_url"),
    [
        ("redis://host", RedisKind.SERVER, [("host", 6379)], "redis://localhost/"),
        ("redis://:p%40w@host:1/2", RedisKind.SERVER, [("host", 1)], "redis://:p%40w@localhost/2"),
        ("rediss://u:p@[::1]:7/0?a=b", RedisKind.SERVER, [("::1", 7)], "rediss://u:p@localhost/0?a=b"),
        ("redis+sentinel://a,b:1/m", RedisKind.SENTINEL, [("a", 26379), ("b", 1)], "redis://localhost/"),
        ("rediss+sentinel://u@a/m/3", RedisKind.SENTINEL, [("a", 26379)], "rediss://u@localhost/3"),
        ("redis+cluster://a:1,[::2]", RedisKind.CLUSTER, [("a", 1), ("::2", 6379)], "redis://localhost/"),
        ("rediss+cluster://a/0", RedisKind.CLUSTER, [("a", 6379)], "rediss://localhost/0"),
        ("unix:///run/redis?db=1", RedisKind.SOCKET, [], "unix:///run/redis?db=1"),
    ],
)
def test_url_is_parsed(text: str, kind: RedisKind, addresses: list[tuple[str, int]], driver_url: str) -> None:
    url = RedisUrl.parse(text)
    assert (url.kind, list(url.addresses), url.driver_url) == (kind, addresses, driver_url)
    assert url.tls == text.startswith("rediss")


def test_sentinels_have_their_own_user() -> None:
    url = RedisUrl.parse("redis+sentinel://u:p@a/my%20m?sentinel_username=s&sentinel_password=q%26&x=1")
    assert (url.master, url.sentinel_username, url.sentinel_password) == ("my m", "s", "q&")
    assert url.driver_url == "redis://u:p@localhost/?x=1"
    assert str(url) == "redis+sentinel://u:***@a/my%20m?sentinel_username=s&sentinel_password=***&x=1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redos://h", "not a Redis URL"),
        ("unix+cluster://h", "not a Redis URL"),
        ("redis", "not a Redis URL"),
        ("redis+sentry://h/m", "only sentinel and cluster are known"),
        ("redis://a,b", r"several hosts; write redis\+sentinel:// or redis\+cluster://"),
        ("redis+sentinel://a", "no name of a master"),
        ("redis+sentinel://a/m/x", "the database is not a number"),
        ("redis://a/x", "the database is not a number"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a?sentinel_password=x", "an option for sentinels"),
        ("redis+sentinel://a/m?sentinel_passwort=x", "an option for sentinels"),
        ("redis://", "no host"),
        ("redis+cluster://a,,b", "no host"),
        ("redis+cluster://a:99999", "the port is not a number"),
        ("redis+cluster://" + ",".join("abcdefghijklmnopq"), "more than 16 hosts"),
        ("redis://a#b", "write # as %23"),
        ("unix://", "no path of a socket"),
    ],
)
def test_unusable_url_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(UnusableValueError, match=says):
        RedisUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "redis://:hunter2@h",
        "rediss+cluster://u:hunter2@a,b",
        "redis+sentinel://a/m?sentinel_password=hunter2",
        "unix:///run/r?password=hunter2",
    ],
)
def test_passwords_are_not_shown(text: str) -> None:
    url = RedisUrl.parse(text)
    assert "hunter2" not in f"{url} {url!r}"
    assert "hunter2" in url.text

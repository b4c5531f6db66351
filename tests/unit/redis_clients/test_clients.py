"""Clients by URL, without connecting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority
from token_service.errors import ConfigurationError
from token_service.redis_clients import RedisAccess, RedisClients, RedisTls


async def test_keys_of_one_slot_share_a_client_and_others_have_their_own() -> None:
    clients = RedisClients(RedisAccess.of("redis+cluster://a,b,c"))
    assert clients.at("token_service:{a}:head") is clients.at("token_service:{a}:log")
    assert clients.at("token_service:{a}:head") is not clients.at("token_service:epoch")
    await clients.aclose()
    single = RedisClients(RedisAccess.of("redis://a"))
    assert single.at("token_service:{a}:head") is single.at("token_service:epoch")
    await single.aclose()


async def test_options_and_password_reach_the_connections() -> None:
    clients = RedisClients(RedisAccess.of("redis+sentinel://u%40@s1/m/3?health_check_interval=5", "p@ss"))
    options = clients.at("key").connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("u@", "p@ss", 3)
    assert options["health_check_interval"] == 5
    assert "p@ss" not in repr(clients)
    await clients.aclose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://host", "not a Redis URL"),
        ("redis://:hunter2@host?socket_timeout=soon", "has an option that can't be used"),
        ("redis+sentinel://:hunter2@host/m?nonsense=1", "has an option that can't be used"),
    ],
)
def test_unusable_urls_are_refused_without_their_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        RedisClients(RedisAccess.of(url))
    assert "hunter2" not in caught.value.message


def test_unusable_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    authority, certificate, other = Authority(), Authority().issue(), Authority().issue()
    for name, content in {
        "ca": authority.certificate,
        "cert": certificate.certificate,
        "key": certificate.key,
        "other": other.key,
        "junk": b"junk",
    }.items():
        (tmp_path / name).write_bytes(content)

    def refusal(ca: str, cert: str, key: str) -> str:
        tls = RedisTls(tmp_path / ca, tmp_path / cert, tmp_path / key)
        with pytest.raises(ConfigurationError) as caught:
            RedisClients(RedisAccess.of("rediss://host", tls=tls))
        return caught.value.message

    RedisClients(
        RedisAccess.of("rediss://host", tls=RedisTls(tmp_path / "ca", tmp_path / "cert", tmp_path / "key"))
    )
    assert f"the authorities of Redis in {tmp_path / 'junk'} can't be used" in refusal("junk", "cert", "key")
    assert "(No such file or directory)" in refusal("none", "cert", "key")
    message = refusal("ca", "cert", "other")
    assert "(key values mismatch); write a certificate and its unencrypted private key there (PEM)" in message

"""Nodes and a Redis with TLS that wants a client certificate, configured as docs/production.md shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.e2e.redis_features import use_everything
from tests.e2e.redis_files import RedisFiles
from tests.e2e.redis_page import environment, rules, shown
from tests.e2e.redis_world import world
from tests.support.redis import RedisServer, RedisTlsFiles
from tests.support.redis7 import find_redis_7, libraries
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess, RedisTls
from token_service.stores.redis import RedisMirror
from token_service.stores.redis.counters import RedisCounters


@pytest.fixture
def files(tmp_path: Path) -> RedisFiles:
    return RedisFiles(tmp_path).write()


def server_of(tls: RedisTlsFiles) -> RedisServer:
    """Return a server with the settings of the page and these files."""
    settings = dict(line.split(" ", 1) for line in shown("server").splitlines())
    assert {name for name in tls.settings if name in settings} == {
        "tls-ca-cert-file",
        "tls-cert-file",
        "tls-key-file",
        "tls-auth-clients",
    }
    return RedisServer(
        binary=find_redis_7(),
        settings={name: value.strip('"') for name, value in settings.items()},
        tls=tls,
        env=libraries(),
    )


@pytest.fixture
def server(files: RedisFiles) -> Iterator[RedisServer]:
    with server_of(files.server) as made:
        with made.client() as client:
            client.execute_command("ACL SETUSER", "token-service", *rules("acl"))
        yield made


def access(server: RedisServer, tls: RedisTls) -> RedisAccess:
    return RedisAccess.of(f"rediss://token-service@127.0.0.1:{server.port}", "password", tls)


def tls_of(files: RedisFiles, *, ca: str = "ca.pem", client: bool = True) -> RedisTls:
    if not client:
        return RedisTls(files.path(ca))
    return RedisTls(files.path(ca), files.path("client.pem"), files.path("client.key"))


async def failure(server: RedisServer, tls: RedisTls) -> str:
    """Return why Redis can't be used."""
    async with RedisCounters(access(server, tls)) as counters:
        with pytest.raises(StoreUnavailableError) as caught:
            await counters.ping()
    return caught.value.message


async def test_nodes_use_redis_as_the_page_shows(
    server: RedisServer, files: RedisFiles, postgres_url: str
) -> None:
    password = files.path("password")
    password.touch(mode=0o600)
    password.write_text("password\n")
    env = environment(
        "tls",
        url=f"rediss://token-service@127.0.0.1:{server.port}/0",
        password_file=str(password),
        tls_ca_file=str(files.path("ca.pem")),
        tls_cert_file=str(files.path("client.pem")),
        tls_key_file=str(files.path("client.key")),
    )
    async with world(postgres_url, env) as two, two.load() as load:
        await load.go_on()
        await two.counts_together()
        await two.reached(load)
        async with Redis.from_url(server.url, decode_responses=True) as redis:
            await two.agrees(redis, load)
            assert await redis.acl_log() == []
        await two.is_used()


async def test_refused_certificates_are_explained(server: RedisServer, files: RedisFiles) -> None:
    await use_everything(access(server, tls_of(files)), "epoch")
    message = await failure(server, tls_of(files, ca="other-ca.pem"))
    assert "the certificate of the server is refused: " in message
    assert "trust its authority" in message
    message = await failure(server, tls_of(files, client=False))
    assert "does the server want a client certificate" in message


async def test_certificate_of_another_name_is_refused(files: RedisFiles) -> None:
    with server_of(files.elsewhere) as elsewhere:
        message = await failure(elsewhere, tls_of(files))
    assert "the certificate of the server is refused: IP address mismatch" in message


async def test_node_with_a_wrong_authority_serves_and_logs_the_cause(
    server: RedisServer, files: RedisFiles, postgres_url: str
) -> None:
    env = {
        **files.environment(),
        "TOKEN_SERVICE_REDIS_URL": f"rediss://token-service:password@127.0.0.1:{server.port}",
        "TOKEN_SERVICE_REDIS_TLS_CA_FILE": str(files.path("other-ca.pem")),
    }
    async with world(postgres_url, env) as two, two.load() as load:
        await load.go_on()
        await two.is_away()
        await two.counts_alone()
        await two.reached(load)
        assert "the certificate of the server is refused" in two.logs()
        for node in two.nodes:
            assert node.log_text().count("the revocation mirror is away") == 1


async def test_renewed_files_need_no_restart(server: RedisServer, files: RedisFiles) -> None:
    async with RedisMirror(access(server, tls_of(files))) as mirror:
        assert await mirror.position("epoch") is None
        await asyncio.to_thread(server.stop)
        files.write()
        await asyncio.to_thread(server.start)
        with server.client() as client:
            client.execute_command("ACL SETUSER", "token-service", *rules("acl"))
        assert await mirror.position("epoch") is None

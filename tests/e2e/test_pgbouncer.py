"""A node whose connections to PostgreSQL go through PgBouncer."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest

from tests.integration.calls import STRONG, Api
from tests.integration.nodes import Node, key_encryption_key
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import driver_url
from token_service.errors import ConfigurationError
from token_service.stores.sql import SqlStores

REFUSAL = "set it to session mode (PgBouncer: pool_mode = session)"


def settings(url: str) -> dict[str, str]:
    """Return the settings of one node."""
    return {
        "TOKEN_SERVICE_DATABASE_URL": url,
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }


async def test_in_session_mode_a_node_serves(postgres_url: str) -> None:
    with PgBouncer(postgres_url, pool_mode="session") as pooler:
        async with Node(env=settings(pooler.url)) as node, Api(node.grpc_address) as api:
            issued = await api.issue("alice")
            assert (await api.validate(issued.access_token, consistency=STRONG)).active
            await api.revoke(subject="alice")
            assert not (await api.validate(issued.access_token, consistency=STRONG)).active
            assert (await api.issue("alice")).access_token


async def test_in_session_mode_connections_have_their_settings(postgres_url: str) -> None:
    with PgBouncer(postgres_url, pool_mode="session") as pooler:
        async with SqlStores(pooler.url) as stores:
            await stores.migrate()
            await stores.log.head()
            async with stores._database.engine.connect() as connection:
                lanes = await connection.exec_driver_sql(
                    "SELECT current_setting('statement_timeout'), count(*) OVER () FROM pg_stat_activity "
                    "WHERE application_name = 'token-service' AND pid <> pg_backend_pid()"
                )
                assert tuple(lanes.one()) == ("5s", 1)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_in_another_mode_a_node_does_not_start(postgres_url: str, mode: str) -> None:
    with PgBouncer(postgres_url, pool_mode=mode) as pooler:
        node = Node(env=settings(pooler.url))
        try:
            node.start(wait=False)
            assert await asyncio.to_thread(node.wait) != 0
            assert REFUSAL in node.log_text()
        finally:
            node.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_in_another_mode_every_start_is_refused_beside_other_clients(
    postgres_url: str, mode: str
) -> None:
    async with SqlStores(postgres_url) as stores:
        await stores.migrate()
    with PgBouncer(postgres_url, pool_mode=mode) as pooler:
        stop = asyncio.Event()
        others = [asyncio.create_task(keep_busy(pooler.url, stop)) for _ in range(4)]
        try:
            for _ in range(5):
                async with SqlStores(pooler.url) as stores:
                    for start in (stores.require_current, stores.migrate):
                        with pytest.raises(ConfigurationError, match=re.escape(REFUSAL)):
                            await start()
        finally:
            stop.set()
            await asyncio.gather(*others)


async def keep_busy(url: str, stop: asyncio.Event) -> None:
    """Use the pooler as another program in that mode would."""
    connection = await asyncpg.connect(driver_url(url), statement_cache_size=0)
    try:
        while not stop.is_set():
            await connection.execute("SELECT 1")
    finally:
        await connection.close()

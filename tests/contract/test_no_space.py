"""A database without space for a write: the stores report it and notice when space is free again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from tests.contract.builders import a_draft, a_session
from tests.support.deadline import eventually
from tests.support.postgres import driver_url
from token_service.errors import StoreUnavailableError
from token_service.stores.sql import SqlStores
from token_service.stores.sql.engine import space
from token_service.tokens.revocation import RevocationTarget

FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{state}'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT ON leases FOR EACH ROW EXECUTE FUNCTION full_disk();
"""


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("53100", "the database has no space left: free some on its disk"),
        (
            "53200",
            "the database is out of resources (OutOfMemoryError (53200)): look at its memory and limits",
        ),
        (
            "58030",
            "the database can't write its files (PostgresIOError (58030)): look at its disk and their owner",
        ),
    ],
)
@pytest.mark.parametrize("table", ["sessions", "revocations"])
async def test_postgresql_without_space(
    postgres_database: str, state: str, message: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "_INTERVAL", 0.01)
    connection = await asyncpg.connect(driver_url(postgres_database))
    async with SqlStores(postgres_database) as stores:

        def write():
            if table == "sessions":
                return stores.sessions.create(a_session(), None)
            return stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])

        def trouble() -> str | None:
            return stores.trouble

        watch = asyncio.create_task(stores.watch())
        await write()
        assert trouble() is None
        await connection.execute(FULL.format(state=state))
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as caught:
                await write()
            assert str(caught.value) == message
            assert caught.value.retry_after
            assert trouble() == message
        assert (await stores.log.head()).sequence == (table == "revocations")
        assert trouble() == message  # a read does not change it
        await stores.nodes.request(5)  # nor does a write that needs no space
        assert trouble() == message
        await connection.execute("DROP FUNCTION full_disk CASCADE")
        await eventually(lambda: trouble() is None)
        await write()
        assert trouble() is None
        assert await connection.fetchval("SELECT count(*) FROM leases") == 0
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
    await connection.close()


async def test_too_many_connections_are_not_reported_as_lack_of_space(postgres_database: str) -> None:
    connection = await asyncpg.connect(driver_url(postgres_database))
    await connection.execute(FULL.format(state="53300"))
    async with SqlStores(postgres_database) as stores:
        with pytest.raises(StoreUnavailableError, match="the database is unavailable"):
            await stores.sessions.create(a_session(), None)
        assert stores.trouble is None
    await connection.close()

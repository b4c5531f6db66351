"""A node of an earlier version that runs on beside newer ones, on a migrated database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft
from tests.releases.sql import load_postgres, load_sqlite
from token_service.clock import SystemClock
from token_service.core.clients.registry import ClientRegistry
from token_service.core.keys.keyring import Keyring
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revisions import RevisionedCopies
from token_service.core.revocation.tailer import Tailer
from token_service.stores.sql import SqlStores, migrations
from token_service.stores.sql.migrations import upgrade
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget
from token_service.urls import DatabaseUrl

TOKEN = RevocationTarget.TOKEN_ID
RELEASES = sorted((Path(__file__).resolve().parents[1] / "releases").glob("*/record.json"))


async def append_as_before(stores, sequence):
    """Append as a node at the second revision of the schema does."""
    time = round((NOW + sequence) * 1_000_000)
    async with stores._database.engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO revocations (sequence, revoke_time, expire_time, target, reason, value, comment) "
            f"VALUES ({sequence}, {time}, {time + 3600_000_000}, {int(TOKEN)}, 0, 'older-{sequence}', '')"
        )
        await connection.exec_driver_sql(f"UPDATE log_head SET sequence = {sequence}, key_revision = 0")


def a_tailer(stores, replica):
    unused: Any = None
    keyring = Keyring(stores.keys, wrap=unused, algorithm=Algorithm.ES256, open_signer=unused)
    index = ReadIndex(stores.log)
    copies = RevisionedCopies(
        keyring,
        ClientRegistry(stores.clients),
        OverrideRegistry(stores.policies, Policies(PolicyBook())),
    )
    return Tailer(stores.log, replica, index, copies, SystemClock(), poll_interval=1, max_staleness=9)


async def test_time_of_the_newest_entry_is_unknown_after_an_older_node_wrote_it(sql_backend):
    async with sql_backend.open() as stores:
        await stores.log.append([a_draft(TOKEN, 1, revoke_time=NOW + 1)])
        await append_as_before(stores, 2)
        head = await stores.log.head()
        assert (head.sequence, head.newest) == (2, None)
        await stores.log.compact(NOW + 9000, 100)
        head = await stores.log.head()
        assert (head.sequence, head.compacted, head.newest) == (2, 2, None)
        head, entries = await stores.log.append([a_draft(TOKEN, 3, revoke_time=NOW + 3)])
        assert (head.follows, head.newest, entries[0].sequence) == (None, NOW + 3, 3)
        assert (await stores.log.head()).newest == NOW + 3


async def test_a_node_follows_entries_of_older_nodes(sql_backend, caplog):
    async with sql_backend.open() as stores:
        replica = Replica()
        tailer = a_tailer(stores, replica)
        await stores.log.append([a_draft(TOKEN, 1)])
        await tailer.start()
        known = replica.revocations
        await append_as_before(stores, 2)
        for _ in range(3):
            await tailer.start()
        assert replica.revocations is known
        async with asyncio.timeout(30):
            assert (await tailer.catch_up()).sequence == replica.applied == 2
        await stores.log.append([a_draft(TOKEN, 3)])
        await tailer.start()
        assert (replica.revocations, replica.applied) == (known, 3)
        assert not any("restored" in message for message in caplog.messages)


async def test_overrides_remain_in_force_while_an_older_node_appends(sql_backend):
    async with sql_backend.open() as stores:
        policies = Policies(PolicyBook())
        overrides = OverrideRegistry(stores.policies, policies)
        assert await stores.policies.change({"internal.rotate": "false"}, revision=0, now=NOW, by="ops")
        await append_as_before(stores, 1)
        head = await stores.log.head()
        await overrides.refresh(revision=head.policies_revision)
        assert (head.sequence, head.policies_revision, policies.of("web").rotate) == (1, 1, False)
        await stores.log.append([a_draft(TOKEN, 2)])
        assert (await stores.log.head()).policies_revision == 1


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize("record", RELEASES, ids=[path.parent.name for path in RELEASES])
async def test_statements_of_a_release_work_on_every_schema_that_it_is_declared_to_survive(
    record, dialect, request, tmp_path
):
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path / 'older.db'}"
        load_sqlite(tmp_path / "older.db", record.with_name("sqlite.sql"))
    else:
        url = request.getfixturevalue("postgres_url")
        await asyncio.to_thread(load_postgres, url, record.with_name("postgresql.sql"))
    async with SqlStores(url) as stores:
        engine = stores._database.engine
        older = sa.MetaData()  # the columns that a node of the release names in its statements
        async with engine.connect() as connection:
            await connection.run_sync(older.reflect)
            rows = {table: await read(connection, table) for table in older.sorted_tables}
        assert [table.name for table, found in rows.items() if not found] == []
        ((revision,),) = rows.pop(older.tables["alembic_version"])
        version = parts(record.parent.name)
        for step in upgrade.steps():
            if step.revision <= revision or parts(step.compatible_since) > version:
                continue
            async with engine.begin() as connection:
                await connection.run_sync(upgrade.upgrade, step.revision)
                for table, found in rows.items():
                    await use_as_before(connection, table, found)
        await stores.require_current()
        assert (await stores.log.head()).sequence == 5
        # The way back, with what this version writes beside the release.
        await stores.log.append([a_draft(TOKEN, 6)])
        assert await stores.policies.change({"internal.rotate": "false"}, revision=0, now=NOW, by="ops")
        await migrations.undo(DatabaseUrl.parse(url), revision)
        async with engine.connect() as connection:
            left = sa.MetaData()
            await connection.run_sync(left.reflect)
            assert {name: [*table.columns.keys()] for name, table in left.tables.items()} == {
                name: [*table.columns.keys()] for name, table in older.tables.items()
            }
            revoked = await read(connection, older.tables["revocations"])
            assert [row.sequence for row in revoked] == [1, 2, 3, 4, 5, 6]


async def use_as_before(connection, table, found):
    """Read, delete, insert and update the rows, with the columns of the release."""
    assert await read(connection, table) == found, table.name
    await connection.execute(sa.delete(table))
    await connection.execute(sa.insert(table), [row._asdict() for row in found])
    await connection.execute(sa.update(table).values(found[0]._asdict()).where(sa.false()))
    assert await read(connection, table) == found, table.name


def parts(version):
    return [int(part) for part in version.split(".")]


async def read(connection, table):
    """All rows, in the order of the primary key."""
    return (await connection.execute(sa.select(table).order_by(*table.primary_key))).all()

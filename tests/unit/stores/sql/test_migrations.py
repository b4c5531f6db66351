"""The migrations create the current schema from every earlier revision."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from token_service.errors import ConfigurationError, NewerSchemaError
from token_service.stores.sql import SqlStores, migrations, schema
from token_service.stores.sql.engine import sqlite
from token_service.stores.sql.engine.engine import create_engine
from token_service.stores.sql.engine.sqlite import BUSY_TIMEOUT, connect
from token_service.stores.sql.migrations import upgrade
from token_service.urls import DatabaseUrl


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return DatabaseUrl.parse(f"sqlite:///{tmp_path}/x.db")
    return DatabaseUrl.parse(request.getfixturevalue("postgres_url"))


async def inspected(url, function):
    if url.path is not None:
        url.path.touch()
    engine = create_engine(url, 1)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(function)
    finally:
        await engine.dispose()


def test_head_constant_is_the_head_of_alembic():
    assert upgrade.scripts().get_heads() == [migrations.HEAD]


def test_migrations_are_frozen():
    for script in upgrade.scripts().walk_revisions():
        assert "schema" not in vars(script.module), "a migration is frozen and does not follow the schema"
        source = inspect.getsource(script.module)
        assert "token_service" not in source


async def test_migrations_create_the_schema(url):
    assert await migrations.migrate(url)

    def difference(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, schema.metadata)

    assert await inspected(url, difference) == []


async def test_migrations_create_constraints_indexes_and_options_of_the_schema(url, tmp_path):
    await migrations.migrate(url)

    def described(connection):
        inspector = sa.inspect(connection)
        return {
            table: (
                inspector.get_pk_constraint(table),
                sorted(c["name"] for c in inspector.get_check_constraints(table)),
                [
                    (column["name"], str(column["type"]), column["nullable"], column["default"])
                    for column in inspector.get_columns(table)
                ],
                sorted(
                    (index["name"], index["unique"], index["column_names"], str(_predicate(index)))
                    for index in inspector.get_indexes(table)
                ),
                inspector.get_table_options(table),
            )
            for table in schema.metadata.tables
        }

    migrated = await inspected(url, described)

    def made_directly(connection):
        for name in reversed(schema.metadata.sorted_tables):
            connection.execute(sa.text(f"DROP TABLE {name}"))
        schema.metadata.create_all(connection)
        return described(connection)

    assert migrated == await inspected(url, made_directly)


def _predicate(index):
    return next((value for key, value in index["dialect_options"].items() if key.endswith("_where")), None)


async def test_migration_starts_from_every_earlier_revision(url):
    """The database has rows of an earlier revision."""
    for script in [*upgrade.scripts().walk_revisions()][::-1]:
        await inspected(url, partial(_upgrade_to, revision=script.revision))
        if script.revision == "0001":
            await inspected(url, _use)
    assert await migrations.current_revision(url) == migrations.HEAD

    async with SqlStores(url.text) as stores:
        assert (await stores.log.head()).sequence == 7
        session = await stores.sessions.get(UUID(int=5))
        assert session is not None
        assert (session.subject, session.generation) == ("alice", 3)
        (key,) = (await stores.keys.load()).signing_keys
        assert key.key_id == "k"


def _upgrade_to(connection, revision):
    upgrade.upgrade(connection, revision)
    connection.commit()


def _use(connection):
    """Insert rows in the format of the first revision."""
    times = "create_time, rotate_time, last_use_time, idle_expire_time, absolute_expire_time, purge_time"
    values = {"id": UUID(int=5) if connection.dialect.name == "postgresql" else UUID(int=5).hex}
    connection.execute(
        sa.text(
            f"INSERT INTO sessions (id, {times}, generation, revision, key_version, retries, revoke_reason, with_id_token, "
            "subject, client_id, device_id, scopes, audience, custom_claims) "
            "VALUES (:id, 1, 1, 1, 9, 9, 9, 3, 0, 1, 0, 0, false, 'alice', 'web', '', '[]', '[]', '{}')"
        ),
        values,
    )
    connection.execute(
        sa.text(
            "INSERT INTO signing_keys (key_id, algorithm, state, public_key, private_key, wrapping_key_id, create_time) "
            "VALUES ('k', 'ES256', 'active', :bytes, :bytes, 'kek', 1)"
        ),
        {"bytes": b"x"},
    )
    connection.execute(sa.text("UPDATE log_head SET sequence = 7"))
    connection.commit()


async def test_second_migration_changes_nothing(url):
    assert await migrations.current_revision(url) is None
    assert await migrations.migrate(url)
    assert not await migrations.migrate(url)
    assert await migrations.current_revision(url) == migrations.HEAD
    await migrations.require_current(url)


async def test_concurrent_migrations_migrate_once(url):
    answers = await asyncio.gather(*(migrations.migrate(url) for _ in range(4)))
    assert sorted(answers) == [False, False, False, True]

    def heads(connection):
        return connection.execute(sa.select(schema.log_head.c.id)).scalars().all()

    assert await inspected(url, heads) == [1]


def test_concurrent_connections_create_a_new_file(tmp_path):
    """SQLite lets one connection enable the write-ahead log and refuses the others without waiting."""
    start = threading.Barrier(4)

    def make(path):
        start.wait()
        connect(path, BUSY_TIMEOUT).close()

    with ThreadPoolExecutor(4) as threads:
        for n in range(100):
            list(threads.map(make, [tmp_path / f"{n}.db"] * 4))


async def test_migration_waits_longer_than_busy_timeout_for_another_node(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    url = DatabaseUrl.parse(f"sqlite:///{tmp_path}/x.db")
    assert url.path is not None
    other = connect(str(url.path), 1)
    other.execute("BEGIN IMMEDIATE")
    migrating = asyncio.create_task(migrations.migrate(url))
    done, _ = await asyncio.wait([migrating], timeout=0.5)
    assert not done
    other.execute("ROLLBACK")
    other.close()
    assert await migrating


async def test_concurrent_processes_migrate_once(url):
    program = f"""
import asyncio
from token_service.stores.sql import SqlStores
async def main():
    async with SqlStores({url.text!r}) as stores:
        await stores.migrate()
        await asyncio.gather(*(stores.leases.acquire(str(n), "x", 1) for n in range(3)))
        print((await stores.log.head()).epoch)
asyncio.run(main())
"""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        for _ in range(4)
    ]
    async with asyncio.timeout(100):
        epochs = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(epochs)) == 1


async def test_each_database_gets_its_own_epoch(tmp_path):
    epochs = set()
    for n in range(3):
        url = DatabaseUrl.parse(f"sqlite:///{tmp_path}/{n}.db")
        await migrations.migrate(url)
        assert url.path is not None
        with sqlite3.connect(url.path) as connection:
            epochs.add(connection.execute("SELECT epoch FROM log_head").fetchone()[0])
        connection.close()
    assert len(epochs) == 3


async def test_progress_is_reported_before_the_first_and_after_each_migration(url):
    calls = []
    await migrations.migrate(url, lambda *numbers: calls.append(numbers))
    missing = len(upgrade.known_revisions())
    assert calls == [(done, missing) for done in range(missing + 1)]
    await migrations.migrate(url, lambda *_: pytest.fail("nothing is missing"))


async def test_failed_migration_leaves_no_tables(url, monkeypatch):
    real = upgrade.upgrade

    def fails_at_the_end(connection, progress):
        real(connection, progress=progress)
        raise RuntimeError("power cut")

    monkeypatch.setattr(upgrade, "upgrade", fails_at_the_end)
    with pytest.raises(RuntimeError, match="power cut"):
        await migrations.migrate(url)
    assert await inspected(url, lambda connection: sa.inspect(connection).get_table_names()) == []
    monkeypatch.undo()
    assert await migrations.migrate(url)


async def test_newer_schema_is_refused(url):
    await migrations.migrate(url)

    def age(connection):
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()

    await inspected(url, age)
    for attempt in (migrations.migrate, migrations.require_current, migrations.missing):
        with pytest.raises(NewerSchemaError) as caught:
            await attempt(url)
        assert caught.value.message == (
            f"the schema 9999 is newer than this version ({migrations.HEAD}); use the version of the service that migrated "
            "it, let that version go back (`token-service migrate --undo-to`), or restore the backup made before it"
        )


async def test_missing_migrations_are_listed_without_a_change(url):
    every = upgrade.steps()
    assert [step.revision for step in every] == sorted(upgrade.known_revisions())
    assert await migrations.missing(url) == (None, every)
    await inspected(url, partial(_upgrade_to, revision="0010"))
    for _ in range(2):
        assert await migrations.missing(url) == ("0010", [step for step in every if step.revision > "0010"])
    await migrations.migrate(url)
    assert await migrations.missing(url) == (migrations.HEAD, ())


async def test_missing_schema_error_names_the_command(url):
    with pytest.raises(ConfigurationError, match="run `token-service migrate`"):
        await migrations.require_current(url)


async def test_start_on_current_database_imports_no_alembic(tmp_path):
    path = f"sqlite:///{tmp_path}/x.db"
    await migrations.migrate(DatabaseUrl.parse(path))
    program = f"""
import asyncio, sys
from token_service.stores.sql import SqlStores
async def main():
    async with SqlStores({path!r}) as stores:
        await stores.migrate()
        await stores.log.head()
asyncio.run(main())
print([name for name in ("alembic", "asyncpg") if name in sys.modules])
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        output, _ = await process.communicate()
    assert (process.returncode, output.strip()) == (0, b"[]")


async def test_database_file_is_readable_by_owner_only(tmp_path):
    url = DatabaseUrl.parse(f"sqlite:///{tmp_path}/x.db")
    await migrations.migrate(url)
    assert url.path is not None
    assert url.path.stat().st_mode & 0o777 == 0o600

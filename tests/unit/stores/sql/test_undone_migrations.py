"""What each migration declares about its way back is true."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import pytest
import sqlalchemy as sa

from tests.unit.stores.sql.test_migrations import _upgrade_to, _use, inspected
from token_service.errors import ConfigurationError, NewerSchemaError, StoreUnavailableError
from token_service.stores.sql import migrations
from token_service.stores.sql.engine.engine import create_engine
from token_service.stores.sql.migrations import upgrade
from token_service.stores.sql.migrations.step import Step
from token_service.urls import DatabaseUrl

STEPS = upgrade.steps()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return DatabaseUrl.parse(f"sqlite:///{tmp_path}/x.db")
    return DatabaseUrl.parse(request.getfixturevalue("postgres_url"))


def described(connection):
    """Return the columns, indexes and keys of every table."""
    inspector = sa.inspect(connection)
    return {
        table: (
            sorted(
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)
            ),
            sorted((i["name"], i["unique"], tuple(i["column_names"])) for i in inspector.get_indexes(table)),
            inspector.get_pk_constraint(table)["constrained_columns"],
        )
        for table in inspector.get_table_names()
    }


def rows(connection):
    """Return all rows in the columns of the first revision."""
    tables = sa.MetaData()
    tables.reflect(connection, only=lambda name, _: name != "alembic_version")
    return {
        table: connection.execute(sa.select(*table.columns).order_by(*table.primary_key)).all()
        for table in tables.sorted_tables
    }


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.revision)
def test_every_migration_declares_its_compatibility_and_its_way_back(step):
    script = upgrade.scripts().get_revision(step.revision)
    assert re.fullmatch(r"\d+\.\d+\.\d+", step.compatible_since)
    assert (step.undo_loses is None) == (not hasattr(script.module, "downgrade"))
    assert step.summary.endswith((".", "log"))
    assert not (step.undo_loses or "").endswith(".")


async def test_undoing_each_migration_restores_the_schema_before_and_keeps_its_rows(url):
    before = {}
    for step in STEPS:
        await inspected(url, partial(_upgrade_to, revision=step.revision))
        if step.revision == STEPS[0].revision:
            await inspected(url, _use)
        before[step.revision] = await inspected(url, described), await inspected(url, rows)
    for later, step in zip(STEPS[::-1], STEPS[-2::-1], strict=False):
        assert await migrations.undoable(url, step.revision) == (later.revision, [later])
        await migrations.undo(url, step.revision)
        schema, kept = before[step.revision]
        assert await migrations.current_revision(url) == step.revision
        assert await inspected(url, described) == schema, later.revision
        found = await inspected(url, rows)
        assert {table.name: values for table, values in found.items()} == {
            table.name: values for table, values in kept.items()
        }, later.revision
    assert await migrations.migrate(url)
    assert await inspected(url, described) == before[migrations.HEAD][0]


async def test_undoing_reports_progress_and_keeps_a_current_schema(url):
    await migrations.migrate(url)
    assert await migrations.undoable(url, migrations.HEAD) == (migrations.HEAD, [])
    calls = []
    await migrations.undo(url, "0013", lambda *numbers: calls.append(numbers))
    last = len(calls) - 1
    assert calls == [(number, last) for number in range(last + 1)]
    assert last >= 2
    assert await migrations.current_revision(url) == "0013"


async def test_only_an_earlier_schema_can_be_restored(url):
    with pytest.raises(ConfigurationError, match="at schema none, so it can't go back to schema 0004"):
        await migrations.undo(url, "0004")
    await inspected(url, partial(_upgrade_to, revision="0010"))
    for revision in ("0011", "0012", "base", "-1", ""):
        for attempt in (migrations.undo, migrations.undoable):
            with pytest.raises(
                ConfigurationError, match=f"can't go back to schema {revision}; the schemas are 0001, "
            ):
                await attempt(url, revision)
    assert await migrations.current_revision(url) == "0010"


async def test_a_newer_schema_is_not_undone(url):
    await migrations.migrate(url)

    def age(connection):
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()

    await inspected(url, age)
    with pytest.raises(NewerSchemaError):
        await migrations.undo(url, "0004")


async def test_a_final_migration_is_not_undone(url, monkeypatch):
    await migrations.migrate(url)
    final = [step if step.revision != "0013" else Step("0013", "Merge.", "0.1.0", None) for step in STEPS]
    monkeypatch.setattr(upgrade, "steps", lambda: final)
    with pytest.raises(ConfigurationError, match="migration 0013 can't be undone: restore the backup"):
        await migrations.undo(url, "0011")
    assert await migrations.current_revision(url) == migrations.HEAD
    await migrations.undo(url, "0013")


async def test_migration_gives_way_to_calls_that_wait_behind_a_long_transaction(postgres_url, monkeypatch):
    """A backup reads all tables in one transaction. A migration that waited for its end would stop every call."""
    url = DatabaseUrl.parse(postgres_url)
    await inspected(url, partial(_upgrade_to, revision="0004"))
    monkeypatch.setattr(migrations, "_TABLE_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(migrations, "_TABLE_PAUSE", 0.0)
    attempts: list[str] = []
    monkeypatch.setattr(migrations._logger, "warning", attempts.append)
    engine = create_engine(url, 2)
    try:
        async with engine.connect() as backup, engine.connect() as call:
            # The service ends its own transactions that stand still. A backup has no such limit.
            await backup.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await backup.execute(sa.text("SELECT count(*) FROM sessions"))
            monkeypatch.setattr(migrations, "TABLE_PATIENCE", 0.0)
            with pytest.raises(StoreUnavailableError, match="in use by a long transaction, such as a backup"):
                await migrations.migrate(url)
            assert await migrations.current_revision(url) == "0004"

            migrating = asyncio.create_task(migrations.migrate(url))
            monkeypatch.setattr(migrations, "TABLE_PATIENCE", 60.0)
            while len(attempts) < 3:
                assert not migrating.done()
                async with asyncio.timeout(30):  # it waits for one attempt at most
                    await call.execute(sa.text("SELECT count(*) FROM log_head"))
                await call.rollback()
            await backup.rollback()
            assert await migrating
    finally:
        await engine.dispose()
    assert set(attempts) == {"another transaction uses a table that the migration changes; trying again"}
    await migrations.require_current(url)

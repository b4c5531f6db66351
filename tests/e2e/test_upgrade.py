"""Upgrades under load that are killed, and taken back and done again. tests/integration/test_upgrade.py has the plain one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.upgrade_checks import check_everything
from tests.integration.upgrading import Load, Site
from tests.support.deadline import eventually
from token_service.stores.sql import migrations
from token_service.urls import DatabaseUrl

OLD = "0004"
"""The schema of the last release."""


async def revision(site: Site) -> str | None:
    return await migrations.current_revision(DatabaseUrl.parse(site.database_url))


async def kill(site: Site, load: Load, number: int) -> None:
    """Kill a node of this version under load, and start it again."""
    node = site.nodes[number]
    await asyncio.to_thread(node.kill)
    await load.go_on(revoked=0)
    await site.start(node, site.new)
    await load.go_on()


async def test_killed_migration_changes_nothing_and_can_be_run_again(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with Site(tmp_path, postgres_url, redis_url) as site, Load(site) as load:
        await load.go_on()
        for done in (0, 1, 5, 9):  # before the first migration, between, and before the commit
            await site.kill_migration(done)
            assert await revision(site) == OLD
            await load.go_on(rounds=10, revoked=0)
        await site.migrate()
        await site.migrate()
        await load.go_on()
        for node in site.nodes:
            await site.replace(node, site.new)
        await load.go_on()
        await load.stop()
        await check_everything(load)


async def undone(site: Site) -> bool:
    """Undo the migrations, and return whether no node of this version kept the command from it."""
    done = await site.run("migrate", "--undo-to", OLD, "--yes")
    assert done.returncode == 0 or "a node that was killed counts as running for 10 s" in done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_killed_and_undone_upgrade_loses_no_call_and_no_revocation(
    postgres_url: str, redis_url: str, tmp_path: Path, workers: int
) -> None:
    async with Site(tmp_path, postgres_url, redis_url, workers=workers) as site, Load(site) as load:
        first, second = site.nodes
        await load.go_on()
        await site.migrate()
        await load.go_on()
        await site.replace(first, site.new)
        await kill(site, load, 0)
        refused = await site.run("migrate", "--undo-to", OLD, "--yes")
        assert refused.returncode == 2
        assert "nodes of this version run on the database and need its schema" in refused.stderr
        await load.go_on()

        # The way back. The second node is still one of the last release.
        assert await asyncio.to_thread(first.terminate) == 0
        unconfirmed = await site.run("migrate", "--undo-to", OLD)
        assert unconfirmed.returncode == 2
        assert await revision(site) == migrations.HEAD
        await eventually(lambda: undone(site))  # the killed node counts as running for 10 s
        assert await revision(site) == OLD
        await site.start(first, site.old)
        await load.go_on()
        await site.replace(second, site.old)
        await load.go_on()

        await site.migrate()
        await site.replace(second, site.new)
        await load.go_on()
        await kill(site, load, 1)
        await site.replace(first, site.new)
        await load.go_on()
        await kill(site, load, 0)
        await load.stop()
        await check_everything(load)

"""Migrations are undone only while no node runs that needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from token_service import __version__
from token_service.app.adapters import open_stores
from token_service.app.administration import migrate, undo_migrations
from token_service.config import Settings, load_settings
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import ConfigurationError
from token_service.stores.sql import migrations


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"data_dir": str(tmp_path)}, {})


async def report(settings: Settings, node_id: str, details: NodeDetails | None) -> None:
    async with open_stores(settings) as stores:
        await stores.nodes.report(NodeReport(node_id, 0, [], [], details=details))


async def revision(settings: Settings) -> str | None:
    return await migrations.current_revision(settings.database_url)


async def test_undoing_is_refused_while_a_node_of_this_version_runs(settings: Settings) -> None:
    await migrate(settings)
    await report(settings, "node-1", NodeDetails(version=__version__))
    with pytest.raises(
        ConfigurationError, match=r"nodes of this version run on the database .*: node-1; stop them"
    ):
        await undo_migrations(settings, "0004")
    assert await revision(settings) == migrations.HEAD
    await undo_migrations(settings, migrations.HEAD)  # changes nothing

    async with open_stores(settings) as stores:
        await stores.nodes.forget("node-1")
    await undo_migrations(settings, "0004")
    assert await revision(settings) == "0004"
    await undo_migrations(settings, "0004")


async def test_nodes_of_other_versions_may_run_while_migrations_are_undone(settings: Settings) -> None:
    await migrate(settings)
    await report(settings, "node-1", None)
    await report(settings, "node-2", NodeDetails(version="0.0.1"))
    calls: list[tuple[int, int]] = []
    await undo_migrations(settings, "0014", lambda *numbers: calls.append(numbers))
    assert await revision(settings) == "0014"
    last = len(calls) - 1
    assert calls == [(number, last) for number in range(last + 1)]
    assert last >= 1

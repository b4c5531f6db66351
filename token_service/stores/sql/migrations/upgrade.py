"""What needs Alembic: imported only when there is something to migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from token_service.stores.sql.schema import metadata


def scripts() -> ScriptDirectory:
    """The migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def known_revisions() -> frozenset[str]:
    """All revisions that this version of the service can start from."""
    return frozenset(script.revision for script in scripts().walk_revisions())


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Run what is missing up to a revision, within the transaction that `connection` is in."""
    directory = scripts()

    def missing(revision: str, context: object) -> list[Any]:
        return directory._upgrade_revs(to, revision)  # noqa: SLF001 - what Alembic's own command does

    with EnvironmentContext(Config(), directory, fn=missing) as environment:
        # Alembic takes SQLite's DDL for not transactional, which it is once somebody begins a transaction.
        environment.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        environment.run_migrations()

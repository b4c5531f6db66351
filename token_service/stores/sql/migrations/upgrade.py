"""The part of the migration that needs Alembic. It is imported only if a migration is necessary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from token_service.stores.sql.schema import metadata


def scripts() -> ScriptDirectory:
    """Return the directory of the migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def known_revisions() -> frozenset[str]:
    """Return all revisions that this version of the token service can migrate."""
    return frozenset(script.revision for script in scripts().walk_revisions())


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Run the missing migrations up to a revision, in the transaction of `connection`."""
    directory = scripts()

    def missing(revision: str, context: object) -> list[Any]:
        return directory._upgrade_revs(to, revision)  # noqa: SLF001 - as Alembic's own command does

    with EnvironmentContext(Config(), directory, fn=missing) as environment:
        # Alembic assumes that the DDL of SQLite is not transactional. It is, within an explicit transaction.
        environment.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        environment.run_migrations()

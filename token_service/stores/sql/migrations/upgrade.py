"""The part of the migration that needs Alembic. It is imported only if a migration is necessary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from token_service.stores.sql.migrations.step import Step
from token_service.stores.sql.schema import metadata

Progress = Callable[[int, int], None]
"""Called with the number of migrations done and of all, before the first and after each."""


def scripts() -> ScriptDirectory:
    """Return the directory of the migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def steps() -> Sequence[Step]:
    """Return all migrations of this version of the token service, the first one first."""
    return [
        Step(
            script.revision,
            script.doc,
            script.module.compatible_since,
            script.module.undo_loses,
        )
        for script in [*scripts().walk_revisions()][::-1]
    ]


def known_revisions() -> frozenset[str]:
    """Return all revisions that this version of the token service can migrate."""
    return frozenset(script.revision for script in scripts().walk_revisions())


def upgrade(
    connection: sa.Connection, to: str = "head", progress: Progress = lambda _done, _all: None
) -> None:
    """Run the missing migrations up to a revision, in the transaction of `connection`."""
    directory = scripts()
    _run(connection, directory, lambda revision: directory._upgrade_revs(to, revision), progress)  # noqa: SLF001


def downgrade(connection: sa.Connection, to: str, progress: Progress = lambda _done, _all: None) -> None:
    """Undo the migrations after a revision, in the transaction of `connection`."""
    directory = scripts()
    _run(connection, directory, lambda revision: directory._downgrade_revs(to, revision), progress)  # noqa: SLF001


def _run(
    connection: sa.Connection,
    directory: ScriptDirectory,
    plan: Callable[[str], list[Any]],  # as Alembic's own commands make it
    progress: Progress,
) -> None:
    done, found = 0, 0

    def planned(revision: str, context: object) -> list[Any]:
        nonlocal found
        planned = plan(revision)
        found = len(planned)
        progress(0, found)
        return planned

    def applied(*_: object, **__: object) -> None:
        nonlocal done
        done += 1
        progress(done, found)

    with EnvironmentContext(Config(), directory, fn=planned) as environment:
        # Alembic assumes that the DDL of SQLite is not transactional. It is, within an explicit transaction.
        environment.configure(
            connection=connection,
            target_metadata=metadata,
            transactional_ddl=True,
            on_version_apply=applied,
        )
        environment.run_migrations()

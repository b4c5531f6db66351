"""`token-service migrate --wait`, which holds a node back until a job has migrated the database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from token_service.stores.sql.migrations import HEAD

MIGRATE = (sys.executable, "-m", "token_service", "migrate")


def environment(database_url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    return {**inherited, "PYTHONUNBUFFERED": "1", "TOKEN_SERVICE_DATABASE_URL": database_url}


def migrate(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MIGRATE, *arguments], env=environment(database_url), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


def test_wait_ends_when_another_process_has_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tokens.db"
    waiting = ManagedProcess([*MIGRATE, "--wait"], log=tmp_path / "log", env=environment(url))
    try:
        eventually_sync(lambda: "has no schema, this version needs " + HEAD in waiting.log_text(), timeout=60)
        assert waiting.running
        assert not (tmp_path / "tokens.db").exists()
        assert migrate(url).returncode == 0
        assert waiting.wait(60) == 0
    finally:
        waiting.kill()
    *waited, last = waiting.log_text().splitlines()
    assert last == f"{url} is at schema {HEAD}"
    # The other process commits each migration, so a slow one shows more than one state.
    assert len(waited) == len(set(waited)), "one line for each state, however long it lasts"


def test_wait_outlasts_a_database_that_does_not_answer(tmp_path: Path) -> None:
    port = free_port()
    url = f"postgresql://user:secret@127.0.0.1:{port}/tokens"
    waiting = ManagedProcess([*MIGRATE, "--wait"], log=tmp_path / "log", env=environment(url))
    try:
        eventually_sync(lambda: "waiting for `token-service migrate`" in waiting.log_text(), timeout=60)
        assert waiting.running
        assert "secret" not in waiting.log_text()
    finally:
        waiting.kill()
        release_port(port)


def test_wait_for_an_older_schema_than_that_of_the_database_fails(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tokens.db"
    assert migrate(url).returncode == 0
    with sqlite3.connect(tmp_path / "tokens.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = migrate(url, "--wait")
    assert done.returncode == 1
    assert "9999" in done.stderr


def test_wait_and_check_exclude_each_other(tmp_path: Path) -> None:
    done = migrate(f"sqlite:///{tmp_path}/tokens.db", "--wait", "--check")
    assert done.returncode == 2
    assert "--wait excludes --check and --undo-to" in done.stderr

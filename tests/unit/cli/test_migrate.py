"""`token-service migrate` says what it will do, and asks before what can't be undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import token_service.app.administration
from token_service.cli import cli
from token_service.config import SETTINGS, Settings
from token_service.stores.sql.migrations.step import Step

CLIENTS = Step("0005", "Add clients.", "0.1.0", "the clients")
REPORTS = Step("0006", "Add reports.", "0.10.0", "")
MERGED = Step("0007", "Merge two columns.", "0.9.0", None)
URL = "sqlite:///x.db"


class Database:
    """What the commands see and do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.revision: str | None = "0004"
        self.steps: Sequence[Step] = ()
        self.done: list[str] = []
        for name in ("missing_migrations", "migrate", "undoable_migrations", "undo_migrations"):
            monkeypatch.setattr(token_service.app.administration, name, getattr(self, name))

    async def missing_migrations(self, settings: Settings) -> tuple[str | None, Sequence[Step]]:
        return self.revision, self.steps

    async def undoable_migrations(self, settings: Settings, to: str) -> tuple[str | None, Sequence[Step]]:
        return self.revision, self.steps

    async def migrate(self, settings: Settings, progress: object) -> str:
        self.done.append("migrate")
        return "0009"

    async def undo_migrations(self, settings: Settings, to: str, progress: object) -> None:
        self.done.append(f"undo to {to}")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    return Database(monkeypatch)


def run(*arguments: str, url: str = URL, stdin: str | None = None) -> Result:
    environment = {"TOKEN_SERVICE_DATABASE_URL": url}
    return CliRunner().invoke(cli, ["migrate", *arguments], env=environment, input=stdin)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs the command with an answer typed at a terminal."""

    def at_terminal(*arguments: str, answer: str) -> Result:
        monkeypatch.setattr(
            "token_service.cli.migrate.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
        )
        return run(*arguments, stdin=answer)

    return at_terminal


def test_standard_output_says_where_the_database_is_now(database: Database) -> None:
    result = run(url="postgresql://me:hunter2@db/t")
    assert (result.stdout, result.stderr) == ("postgresql://me:***@db/t is at schema 0009\n", "")


@pytest.mark.parametrize(
    ("revision", "steps", "shown"),
    [
        ("0004", (), [f"{URL} is at schema 0004, which this version needs: `migrate` changes nothing"]),
        (None, (CLIENTS, REPORTS), [f"{URL} has no schema: `migrate` makes schema 0006"]),
        (
            "0004",
            (CLIENTS, REPORTS),
            [
                f"{URL} is at schema 0004: `migrate` adds",
                "  0005  Add clients.",
                "        undoing it deletes the clients",
                "  0006  Add reports.",
                "        undoing it deletes nothing that is missed",
                "Nodes of version 0.10.0 and later that run go on. Those before this version can't start again.",
                "The way back to schema 0004 is `migrate --undo-to 0004` of this version, or a backup: make one now.",
            ],
        ),
        (
            "0006",
            (MERGED,),
            [
                f"{URL} is at schema 0006: `migrate` adds",
                "  0007  Merge two columns.",
                "        can't be undone",
                "Nodes of version 0.9.0 and later that run go on. Those before this version can't start again.",
                "migration 0007 can't be undone: only a backup brings schema 0006 back. Make one now; then use --yes.",
            ],
        ),
    ],
)
@pytest.mark.parametrize("option", ["--check", "--dry-run"])
def test_check_shows_the_plan_and_changes_nothing(
    database: Database, revision: str | None, steps: Sequence[Step], shown: list[str], option: str
) -> None:
    database.revision, database.steps = revision, steps
    result = run(option)
    assert (result.exit_code, result.stdout.splitlines(), database.done) == (0, shown, [])


def test_the_plan_is_shown_before_an_additive_migration_which_is_not_asked_about(database: Database) -> None:
    database.steps = (CLIENTS, REPORTS)
    planned = run("--check").stdout
    result = run()
    assert (result.exit_code, result.stderr, database.done) == (0, planned, ["migrate"])


def test_a_first_migration_of_an_empty_database_asks_nothing(database: Database) -> None:
    database.revision, database.steps = None, (CLIENTS, MERGED)
    assert (run().exit_code, database.done) == (0, ["migrate"])


def test_a_migration_that_cannot_be_undone_needs_yes_without_a_terminal(database: Database) -> None:
    database.steps = (CLIENTS, MERGED)
    result = run()
    assert (result.exit_code, result.stdout, database.done) == (2, "", [])
    assert result.stderr.splitlines()[-1] == (
        "Error: migration 0007 can't be undone: make a backup, then run the command again with --yes. Nothing was changed"
    )
    assert "  0007  Merge two columns." in result.stderr
    assert (run("--yes").exit_code, database.done) == (0, ["migrate"])


@pytest.mark.parametrize(("answer", "code", "done"), [("n\n", 1, []), ("y\n", 0, ["migrate"])])
def test_a_migration_that_cannot_be_undone_asks_at_a_terminal(
    database: Database, terminal: Callable[..., Result], answer: str, code: int, done: list[str]
) -> None:
    database.steps = (MERGED,)
    result = terminal(answer=answer)
    assert "Migration 0007 can't be undone. Go on?" in result.stderr
    assert (result.exit_code, database.done) == (code, done)


def test_undoing_names_the_losses_and_needs_yes(database: Database) -> None:
    database.revision, database.steps = "0006", (REPORTS, CLIENTS)
    plan = [
        f"{URL} is at schema 0006: `migrate --undo-to 0004` undoes",
        "  0006  Add reports.",
        "        undoing it deletes nothing that is missed",
        "  0005  Add clients.",
        "        undoing it deletes the clients",
        "Nodes of this version can't run on schema 0004: stop them before. Older nodes that run go on.",
    ]
    assert run("--undo-to", "0004", "--check").stdout.splitlines() == plan
    refused = run("--undo-to", "0004")
    assert (refused.exit_code, database.done) == (2, [])
    error = (
        "Error: this deletes data that only a backup brings back: make a backup, then run the command again with --yes. "
        "Nothing was changed"
    )
    assert refused.stderr.splitlines() == [*plan, error]
    result = run("--undo-to", "0004", "--yes")
    assert (result.exit_code, result.stdout) == (0, f"{URL} is at schema 0004\n")
    assert database.done == ["undo to 0004"]


def test_undoing_without_a_loss_is_not_asked_about(database: Database) -> None:
    database.revision, database.steps = "0006", (REPORTS,)
    assert (run("--undo-to", "0005").exit_code, database.done) == (0, ["undo to 0005"])


def test_undoing_nothing_says_so(database: Database) -> None:
    assert run("--undo-to", "0004", "--check").stdout == (
        f"{URL} is at schema 0004: `migrate --undo-to 0004` changes nothing\n"
    )

"""The tables of docs/upgrading.md match what migrations and recorded releases declare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.tour import DOCS, section
from token_service.cli.migrate import plan
from token_service.stores.sql.migrations import HEAD, upgrade
from token_service.stores.sql.migrations.step import Step

PAGE = DOCS / "upgrading.md"
RELEASES = sorted((Path(__file__).resolve().parents[1] / "releases").glob("*/postgresql.sql"))
STEPS = upgrade.steps()


def part(name: str) -> str:
    text = PAGE.read_text()
    start, end = section(text, name)
    return text[start:end].strip()


def rows(name: str) -> list[list[str]]:
    lines = part(name).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def schema_of(release: Path) -> str:
    """Return the schema revision in the recorded database of a release."""
    found = re.search(r"INSERT INTO public\.alembic_version VALUES \('(\w+)'\)", release.read_text())
    assert found is not None
    return found[1]


def table_of_schemas(steps: Sequence[Step]) -> Iterator[str]:
    yield "| schema | what it adds | nodes that go on | undoing it deletes |"
    yield "| --- | --- | --- | --- |"
    for step in steps:
        lost = "can't be undone" if step.undo_loses is None else step.undo_loses or "nothing that is missed"
        yield f"| {step.revision} | {step.summary} | {step.compatible_since} and later | {lost} |"


def test_the_table_of_schemas_is_what_the_migrations_declare() -> None:
    assert part("schemas").splitlines() == [*table_of_schemas(STEPS)]


def test_the_shown_plan_is_what_the_command_prints_for_the_last_release() -> None:
    revision = schema_of(RELEASES[-1])
    missing = [step for step in STEPS if step.revision > revision]
    shown = part("plan").removeprefix("```text\n").removesuffix("\n```")
    assert shown.splitlines() == [*plan("postgresql://db/tokens", revision, missing)]


@pytest.mark.parametrize("release", RELEASES, ids=[path.parent.name for path in RELEASES])
def test_every_release_has_the_schemas_that_it_survives(release: Path) -> None:
    version, needed = release.parent.name, schema_of(release)
    survived = [
        step.revision
        for step in STEPS
        if step.revision >= needed and numbers(step.compatible_since) <= numbers(version)
    ]
    (row,) = [row for row in rows("versions") if row[0] == version]
    assert row == [version, needed, f"{survived[0]} to {survived[-1]}"]


def test_this_version_has_the_current_schema() -> None:
    assert rows("versions")[-1] == ["this version", HEAD, HEAD]


def test_every_schema_since_the_first_release_is_among_the_features() -> None:
    """A migration that loses something when it is undone belongs to a feature, which older nodes do not know."""
    first = schema_of(RELEASES[0])
    features = {row[1] for row in rows("features")}
    assert {step.revision for step in STEPS if step.revision > first and step.undo_loses} <= features


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]

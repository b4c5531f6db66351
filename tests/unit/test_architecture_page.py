"""docs/architecture.md names every part of the package and every feature of the core, in its layer."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.test_import_direction import LAYERS, PACKAGE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")


def folders(parent: Path) -> set[str]:
    return {each.parent.name for each in parent.glob("*/__init__.py")}


def test_tree_names_every_part() -> None:
    assert folders(PACKAGE) - set(re.findall(r"`token_service/(\w+)/`", PAGE)) == set()


def test_table_names_exactly_the_features_of_the_core() -> None:
    table = PAGE.partition("| feature |")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+(?:/|\.py))`", row.split("|")[1])
    }
    modules = {each.name for each in (PACKAGE / "core").glob("*.py")} - {"__init__.py"}
    assert named == {f"{each}/" for each in folders(PACKAGE / "core")} | modules


def test_layers_are_those_of_the_import_test() -> None:
    block = PAGE.partition("a feature imports only features of lower layers:")[2].split("```")[1]
    layers = [set(line.split(", ")) for line in block.splitlines()[1:]]
    assert layers == list(LAYERS)

"""The tests named in docs/invariants.md exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value or "file")
def test_named_test_exists(path: str, name: str) -> None:
    files = sorted((ROOT / "tests").rglob(path.removeprefix("tests/")))
    assert len(files) == 1, f"{path} is not the name of one file: {files}"
    assert not name or f"def {name}(" in files[0].read_text(encoding="utf-8")


def test_every_invariant_names_a_test() -> None:
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| Inv", "| ---"))
    ]
    assert len(rows) > 25
    for row in rows:
        assert "test" in row.rsplit("|", 2)[1], row

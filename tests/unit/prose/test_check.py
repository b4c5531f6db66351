"""Allowed texts, the list of paths and the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.prose import __main__ as program
from tests.prose.allowed import Allowed, Configuration

ENTRY = Allowed("docs/a.md", "log out everybody", "the name of a button")


def test_allowed_text_covers_only_itself() -> None:
    configuration = Configuration(["docs"], [ENTRY])
    text = "Press log out everybody, or everybody waits."
    assert configuration.allows("docs/a.md", text, text.index("everybody"))
    assert not configuration.allows("docs/a.md", text, text.rindex("everybody"))
    assert not configuration.allows("docs/b.md", text, text.index("everybody"))


def test_allowed_text_that_no_hit_needs_is_reported() -> None:
    configuration = Configuration(["docs"], [ENTRY])
    assert configuration.unused() == ["docs/a.md: log out everybody"]
    assert configuration.allows("docs/a.md", ENTRY.text, ENTRY.text.index("everybody"))
    assert configuration.unused() == []
    assert Configuration(["scripts"], [ENTRY]).unused() == []


def test_entry_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "applied.toml"
    path.write_text('paths = []\n[[allowed]]\nfile = "a"\ntext = "b"\n')
    with pytest.raises(TypeError, match="reason"):
        Configuration.read(path)


def test_folder_applies_to_files_below_it_and_not_to_its_namesakes() -> None:
    configuration = Configuration(["tests/a", "README.md"], [])
    names = ["tests/a/b.py", "tests/ab.py", "README.md", "docs/README.md"]
    assert [name for name in names if configuration.applies(name)] == ["tests/a/b.py", "README.md"]


def test_hit_is_printed_with_file_line_pattern_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "page.md").write_text("# Title\n\nA page that\nnobody reads.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prose", "page.md"])
    assert program.main() == 1
    assert capsys.readouterr().out == "page.md:4: nobody: A page that nobody reads.\n"
    monkeypatch.setattr(sys, "argv", ["prose", "--applied", "page.md"])
    assert program.main() == 0

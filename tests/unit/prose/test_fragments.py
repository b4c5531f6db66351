"""The prose that the check reads from each kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose.fragments import fragments, is_readable


def read(directory: Path, name: str, content: str) -> list[tuple[int, str]]:
    path = directory / name
    path.write_text(content)
    return [(each.line(0), each.text) for each in fragments(path)]


def test_python_gives_documentation_comments_messages_and_names_of_tests(tmp_path: Path) -> None:
    source = '''"""A module.

Second `code` paragraph
goes on.
"""
LIMIT = 3
"""Of something."""
# One comment
# on two lines.
def test_a_name():  # beside it
    raise ValueError(f"the value {LIMIT} is no good" " here")
    x = 1  # noqa: F841
    return "short key"
'''
    assert sorted(read(tmp_path, "code.py", source)) == [
        (1, "A module."),
        (3, "Second `````` paragraph goes on."),
        (7, "Of something."),
        (8, "One comment on two lines."),
        (10, "a name"),
        (10, "beside it"),
        (11, "the value {} is no good here"),
    ]


def test_strings_of_tests_are_data(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text('QUERY = "select what is there now"\n')
    assert fragments(path, strings_are_data=True) == []
    assert [each.text for each in fragments(path)] == ["select what is there now"]


def test_line_of_a_later_word_is_known(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Title\n\nOne line\nand another\n")
    paragraph = fragments(path)[1]
    assert [paragraph.line(paragraph.text.index(word)) for word in ("One", "another")] == [3, 4]


def test_markdown_leaves_out_blocks_and_spans_of_code(tmp_path: Path) -> None:
    page = "Text `span` of\n\n```sh\nwhat is this\n```\n\n- item\n- other\n"
    assert read(tmp_path, "page.md", page) == [(1, "Text `````` of"), (7, "- item"), (8, "- other")]


def test_proto_gives_comments(tmp_path: Path) -> None:
    proto = "// A service\n// of ours.\nservice S {\n  int32 a = 1; // Beside.\n}\n"
    assert read(tmp_path, "a.proto", proto) == [(1, "A service of ours."), (4, "Beside.")]


def test_shell_gives_comments_usage_and_messages(tmp_path: Path) -> None:
    script = "#!/bin/sh\n# Does it.\ncat <<'EOF'\nUsage: it\n\nMore of it.\nEOF\necho 'all is good' # here\n"
    assert sorted(read(tmp_path, "script", script)) == [
        (2, "Does it."),
        (4, "Usage: it"),
        (6, "More of it."),
        (8, "all is good"),
        (8, "here"),
    ]


def test_toml_gives_comments_and_no_values(tmp_path: Path) -> None:
    assert read(tmp_path, "a.toml", '# About it.\na = "x # y" # why\n') == [(1, "About it."), (2, "why")]


@pytest.mark.parametrize("name", ["a.sql", "a.json", "LICENSE"])
def test_other_files_have_no_prose(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("what is there\n")
    assert not is_readable(tmp_path / name)
    assert fragments(tmp_path / name) == []

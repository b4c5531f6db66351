"""The prose in a file: docstrings, comments, messages, names of tests and the text of documents."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_CODE: Final = re.compile(r"``[^`]+``|`[^`\n]+`|<https?://[^>]+>|https?://\S+")
_WORDS_OF_A_MESSAGE: Final = 3
"""Shorter literals are names and keys."""

_MARKER: Final = re.compile(r"#+:?|//+|\s+")
_DIRECTIVE: Final = re.compile(r"#\s*(?:noqa|type:|pragma|!|mypy:|ruff:)|#!")
_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d+[.)])\s|#|\|")
_HERE_DOCUMENT: Final = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_SHELL_MESSAGE: Final = re.compile(r"(?:echo|say|die|printf) (?:'([^']*)'|\"([^\"]*)\")")


@dataclass
class Fragment:
    """Text that belongs together, and the line that each part of it comes from."""

    text: str = ""
    _starts: list[tuple[int, int]] = field(default_factory=list)

    def add(self, text: str, line: int) -> None:
        """Append the text of one line. Code in it is blanked, because it is no prose."""
        if self.text:
            self.text += " "
        self._starts.append((len(self.text), line))
        self.text += _CODE.sub(lambda code: "`" * len(code[0]), text.strip())

    def line(self, offset: int) -> int:
        """Return the line of the character at `offset`."""
        return max((start, line) for start, line in self._starts if start <= offset)[1]


def fragments(path: Path, *, strings_are_data: bool = False) -> list[Fragment]:
    """Return the prose of a file, or nothing for a kind of file that is not known.

    `strings_are_data`: string literals of Python are no messages, as in tests. Raises `SyntaxError` for a Python file that does not parse.
    """
    read = _reader(path)
    if read is _python and not strings_are_data:
        read = _python_with_messages
    return [] if read is None else [each for each in read(path) if each.text]


def is_readable(path: Path) -> bool:
    """Tell whether the kind of the file is known."""
    return _reader(path) is not None


def _reader(path: Path) -> Callable[[Path], Iterable[Fragment]] | None:
    if path.suffix in _READERS:
        return _READERS[path.suffix]
    if path.suffix or not path.is_file():
        return _with_hashes if path.name == "Dockerfile" else None
    with path.open("rb") as file:
        first = file.readline()
    if first.startswith(b"#!") and b"python" in first:
        return _python
    return _shell if first.startswith(b"#!") else None


def _python(path: Path) -> Iterator[Fragment]:
    source = path.read_text(encoding="utf-8")
    yield from _joined_comments(_comments(source))
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield from _paragraphs(node.value.value, node.lineno)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield _single(node.name.removeprefix("test_").replace("_", " "), node.lineno)


def _python_with_messages(path: Path) -> Iterator[Fragment]:
    yield from _python(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts_of_others = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts_of_others |= {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in parts_of_others:
                continue
            text = node.value
        else:
            continue
        if len(text.split()) >= _WORDS_OF_A_MESSAGE:
            yield _single(text, node.lineno)


def _comments(source: str) -> Iterator[tuple[int, bool, str]]:
    """Yield the line of each comment, whether it stands alone, and the comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not _DIRECTIVE.match(token.string):
            yield token.start[0], not token.line[: token.start[1]].strip(), token.string


def _joined_comments(comments: Iterable[tuple[int, bool, str]]) -> Iterator[Fragment]:
    """Join comments on lines that follow each other."""
    current, last = Fragment(), -1
    for line, alone, comment in comments:
        if not alone or line != last + 1:
            yield current
            current = Fragment()
        current.add(_MARKER.sub("", comment, count=1), line)
        last = line if alone else -1
    yield current


def _with_hashes(path: Path) -> Iterator[Fragment]:
    """Read comments that begin with `#`, alone on a line or after two spaces or a value."""
    found = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if comment := re.search(r"(?:^|\s)#(?=\s)[^\"]*$|^\s*#.*", text):
            found.append((line, text.lstrip().startswith("#"), comment[0].strip()))
    return _joined_comments(found)


def _shell(path: Path) -> Iterator[Fragment]:
    document: str | None = None
    shown = Fragment()
    comments = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if document is not None:
            if text.strip() == document or not text.strip():
                yield shown
                shown = Fragment()
                document = None if text.strip() == document else document
            else:
                shown.add(text, line)
            continue
        if begun := _HERE_DOCUMENT.search(text):
            document = begun[1]
        elif text.lstrip().startswith("#") and not _DIRECTIVE.match(text.lstrip()):
            comments.append((line, True, text.strip()))
        else:
            if comment := re.search(r"\s(# [^\"'`]*)$", text):
                comments.append((line, False, comment[1]))
            for message in _SHELL_MESSAGE.finditer(text):
                yield _single(message[1] or message[2] or "", line)
    yield from _joined_comments(comments)


def _proto(path: Path) -> Iterator[Fragment]:
    comments = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        before, slashes, comment = text.partition("//")
        if slashes:
            comments.append((line, not before.strip(), comment))
    return _joined_comments(comments)


def _markdown(path: Path) -> Iterator[Fragment]:
    """Read paragraphs, items, headings and rows, without blocks of code."""
    lines = []
    fenced = False
    for text in path.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(text):
            fenced = not fenced
            lines.append("")
        else:
            lines.append("" if fenced else text)
    return _paragraphs("\n".join(lines), 1)


def _paragraphs(text: str, first_line: int) -> Iterator[Fragment]:
    current = Fragment()
    for line, part in enumerate(text.split("\n"), first_line):
        if not part.strip() or _ITEM.match(part):
            yield current
            current = Fragment()
        if part.strip():
            current.add(part, line)
    yield current


def _single(text: str, line: int) -> Fragment:
    fragment = Fragment()
    fragment.add(" ".join(text.split()), line)
    return fragment


_READERS: Final[dict[str, Callable[[Path], Iterable[Fragment]]]] = {
    ".md": _markdown,
    ".proto": _proto,
    ".py": _python,
    ".sh": _shell,
    ".toml": _with_hashes,
    ".yaml": _with_hashes,
    ".yml": _with_hashes,
}

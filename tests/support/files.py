"""Changes of files that a running program reads."""

from __future__ import annotations

from pathlib import Path


def rewrite(path: Path, text: str) -> None:
    """Replace the content of a file in one step: a program that reads it meanwhile sees the old or the new content."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)

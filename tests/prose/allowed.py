"""The paths that the check applies to, and the hits that are allowed with a reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Allowed:
    """A text in a file that may keep its words."""

    file: str
    text: str
    reason: str


@dataclass
class Configuration:
    """The content of `applied.toml`."""

    applies_to: list[str]
    allowed: list[Allowed]
    _used: set[Allowed] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises `TypeError` or `KeyError` if an entry lacks a field."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(content["paths"], [Allowed(**entry) for entry in content.get("allowed", [])])

    def applies(self, name: str) -> bool:
        """Tell whether a file belongs to the paths that are checked."""
        return any(name == path or name.startswith(f"{path}/") for path in self.applies_to)

    def allows(self, name: str, text: str, offset: int) -> bool:
        """Tell whether an allowed text covers the hit at `offset`."""
        for entry in self.allowed:
            if entry.file != name:
                continue
            start = text.find(entry.text)
            while start >= 0:
                if start <= offset < start + len(entry.text):
                    self._used.add(entry)
                    return True
                start = text.find(entry.text, start + 1)
        return False

    def unused(self) -> list[str]:
        """Return the entries of checked files that no hit needed, so that the list stays short."""
        return [
            f"{entry.file}: {entry.text}"
            for entry in self.allowed
            if entry not in self._used and self.applies(entry.file)
        ]

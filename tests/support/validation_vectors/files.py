"""The generated files with their content."""

from __future__ import annotations

import json
from typing import Final

from tests.support.validation_vectors import proofs, scenarios, tokens
from tests.support.validation_vectors.fixed import DIRECTORY

_DOCUMENTS: Final = {
    "tokens.json": tokens.document,
    "scenarios.json": scenarios.document,
    "proofs.json": proofs.document,
}

__all__ = ["DIRECTORY", "files"]


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {name: json.dumps(make(), indent=1) + "\n" for name, make in _DOCUMENTS.items()}

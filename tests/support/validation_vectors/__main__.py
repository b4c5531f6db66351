"""Write the vectors: `python -m tests.support.validation_vectors`."""

from __future__ import annotations

from tests.support.validation_vectors.files import DIRECTORY, files

if __name__ == "__main__":
    for name, content in files().items():
        (DIRECTORY / name).write_text(content, encoding="utf-8")
        print(f"wrote {DIRECTORY / name}")

"""`mypy --strict` accepts every Python program that the pages show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.tour import DOCS, README, ROOT

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)
def test_the_programs_are_typed(tmp_path: Path) -> None:
    programs = []
    for page in (README, ROOT / "protos" / "README.md", *sorted(DOCS.rglob("*.md"))):
        for number, program in enumerate(_FENCE.findall(page.read_text())):
            path = tmp_path / f"{page.parent.name}_{page.stem}_{number}.py".replace("-", "_")
            path.write_text(program)
            programs.append(path)
    assert len(programs) > 10
    # Users have the package with its annotations but without the settings of this repository.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={tmp_path / 'cache'}",
    ]
    done = subprocess.run(
        [*command, "--follow-imports=silent", *programs],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

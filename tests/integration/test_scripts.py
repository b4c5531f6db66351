"""The scripts in a checkout whose path has special characters of the shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name", ["a b", "$(touch expanded)", "`touch expanded`", "it's", 'a"b', "a;b&c", "*"]
)
def test_serve_runs_the_installed_program_and_expands_no_part_of_the_path(tmp_path: Path, name: str) -> None:
    checkout = tmp_path / name
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for file in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, checkout)
    environment = checkout / ".venv"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf \'%s\\n\' "$0" "$@"\n')
    python.chmod(0o755)
    files = b"".join((ROOT / file).read_bytes() for file in ("pyproject.toml", "constraints.txt"))
    sums = subprocess.run(["cksum"], input=files, capture_output=True, check=True).stdout.decode().strip()
    (environment / ".stamp").write_text(f"server {sums} {checkout}\n")
    done = subprocess.run(
        [str(checkout / "scripts" / "serve"), "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == [str(python), "-P", "-m", "token_service", "serve", "--workers", "2"]
    assert not list(tmp_path.rglob("expanded"))

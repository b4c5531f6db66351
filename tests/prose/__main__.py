"""Check the prose of files: `scripts/prose`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.prose.allowed import Configuration
from tests.prose.fragments import fragments, is_readable
from tests.prose.patterns import find

ROOT = Path(__file__).resolve().parents[2]
_SHOWN_BEFORE, _SHOWN_AFTER = 30, 50


def main() -> int:
    """Print every hit as `file:line: pattern: text`. Return 1 if there was one."""
    parser = argparse.ArgumentParser(prog="scripts/prose", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files and folders (default: all that the check applies to)")
    parser.add_argument(
        "--applied", action="store_true", help="pass over the paths that the check does not apply to yet"
    )
    arguments = parser.parse_args()
    configuration = Configuration.read(Path(__file__).with_name("applied.toml"))
    paths = arguments.paths or configuration.applies_to
    files = [
        name
        for name in tracked(paths)
        if is_readable(ROOT / name) and (not arguments.applied or configuration.applies(name))
    ]
    hits = [hit for name in files for hit in check(name, configuration)]
    if not arguments.paths:
        hits += [f"applied.toml: allowed, but no longer found: {entry}" for entry in configuration.unused()]
    for hit in hits:
        print(hit)
    print(f"prose: {len(hits)} hits in {len(files)} files", file=sys.stderr)
    return 1 if hits else 0


def check(name: str, configuration: Configuration) -> Iterator[str]:
    """Yield the hits in one file, given relative to the root of the repository."""
    for fragment in fragments(ROOT / name, strings_are_data=name.startswith("tests/")):
        for pattern, offset in find(fragment.text):
            shown = fragment.text[max(0, offset - _SHOWN_BEFORE) : offset + _SHOWN_AFTER]
            if not configuration.allows(name, fragment.text, offset):
                yield f"{name}:{fragment.line(offset)}: {pattern}: {shown}"


def tracked(paths: list[str]) -> list[str]:
    """Return the files below `paths` that git knows or would add, relative to the root, without generated code."""
    relative = [
        str(Path(path).resolve().relative_to(ROOT)) if Path(path).exists() else path for path in paths
    ]
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *relative],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [name for name in names if not name.startswith(("token_service/v1/", "protos/google/"))]


if __name__ == "__main__":
    sys.exit(main())

"""A disk that a test can fill."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZE: Final = 8 * 2**20
_SOME_PAGES: Final = 16 * 1024


class SmallDisk:
    """A directory on its own file system if mounting is allowed; else one process may not grow its files."""

    def __init__(self, directory: Path, *, mounted: bool) -> None:
        self.directory: Final = directory
        self._mounted: Final = mounted
        self._filler: Final = directory / "filler"

    def fill(self, process: int) -> None:
        """Use up the space; without a mount, only for this process."""
        if not self._mounted:
            largest = max(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (largest + _SOME_PAGES, hard))
            return
        with self._filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self, process: int) -> None:
        """Free the space."""
        if self._mounted:
            self._filler.unlink()
        else:
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def small_disk(directory: Path) -> Iterator[SmallDisk]:
    """Create a directory with a small file system."""
    directory.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(directory)],
        check=False,
        capture_output=True,
        timeout=60,
    ).returncode  # fmt: skip
    try:
        yield SmallDisk(directory, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory)], check=True, timeout=60)

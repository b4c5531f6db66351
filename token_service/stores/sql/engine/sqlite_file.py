"""The files of an SQLite database, and the check that the open files are still the files at their paths.

SQLite continues to use a file that was deleted or replaced. No other process and no later start sees the commits in
such a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

_Identity: TypeAlias = tuple[int, int]


class FileReplacedError(OSError):
    """A file of the database is not the file that was opened."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the file {path} of the database was deleted or replaced while this process had it open; restart the node"
        )


class SqliteFile:
    """The database file of one process, shared by all its connections and threads.

    After the file or its write-ahead log was replaced, no connection is used any more: connections to an old and a new
    log would destroy the database.
    """

    def __init__(self, path: Path) -> None:
        self.uri: Final = f"file:{quote(str(path))}?mode=rw"
        """The URI that opens the file and does not create a missing one."""
        self._path: Final = str(path)
        self._identity: _Identity | None = None
        self._replaced: str | None = None

    def before_open(self) -> None:
        """Raise `FileReplacedError` if the file is not the file of the first connection."""
        if self._replaced is not None:
            raise FileReplacedError(self._replaced)
        identity = _identity(self._path)
        if identity is not None and self._identity is None:
            self._identity = identity
        self._require({self._path: self._identity})

    def opened(self) -> Mapping[str, _Identity | None]:
        """Return the files of a connection right after its first read, for `require_in_place`."""
        self._require({self._path: self._identity})
        paths = (self._path, f"{self._path}-wal", f"{self._path}-shm")
        return {path: _identity(path) for path in paths}

    def require_in_place(self, files: Mapping[str, _Identity | None]) -> None:
        """Raise `FileReplacedError` unless the files of a connection are still at their paths.

        The check takes 5 us.
        """
        if self._replaced is not None:
            raise FileReplacedError(self._replaced)
        self._require(files)

    def _require(self, files: Mapping[str, _Identity | None]) -> None:
        for path, identity in files.items():
            if identity is not None and _identity(path) != identity:
                self._replaced = path
                raise FileReplacedError(path)


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - three times as fast as Path.stat
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino

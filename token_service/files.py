"""Reads files that may be something else than files: directories, pipes, devices, or far too large."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Never waits for the writer of a pipe.

    Raises `OSError`, also for whatever is no regular file and for a larger one; its `strerror` says which.
    """
    return read_regular_with_status(path, limit)[0]


def read_regular_with_status(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """As `read_regular`, with the status of the very file that was read."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        content = b""
        if status.st_size <= limit:
            content = file.read(status.st_size + 1)
            if len(content) > status.st_size:  # it grew, or is one of those that have no size
                content += file.read(limit + 1 - len(content))
        if max(status.st_size, len(content)) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return content, status


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read it. Raises `OSError`, also for whatever is no regular file."""
    try:
        # Without O_NONBLOCK opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the path
        raise OSError(errno.EINVAL, "not a path", str(path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor
    except BaseException:
        os.close(descriptor)
        raise

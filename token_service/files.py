"""Safe reads of configured paths, which may name a directory, a pipe, a device or a huge file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Never waits for the writer of a pipe.

    Raises `OSError`, also if the path is not a regular file or the file is larger. `strerror` names the reason.
    """
    return read_regular_with_status(path, limit)[0]


def read_regular_with_status(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """Read a file as `read_regular` does, and return its content with the status of the same open file."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        content = b""
        if status.st_size <= limit:
            content = file.read(status.st_size + 1)
            if len(content) > status.st_size:  # the file grew, or reports no size, as files in /proc do
                content += file.read(limit + 1 - len(content))
        if max(status.st_size, len(content)) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return content, status


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises `OSError`, also if the path is not a regular file."""
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

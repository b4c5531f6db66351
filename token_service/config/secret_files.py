"""Files that hold one secret each, such as the secrets that an orchestrator mounts."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from token_service.files import read_regular_with_status
from token_service.urls import UnusableValueError

_MAX_BYTES: Final = 64 * 1024


def read_secret(path: Path) -> tuple[str, str | None]:
    """Return the content of a file without its final newline, and advice if other users can read or write the file.

    Raises `UnusableValueError`. Its message repeats nothing of the content.
    """
    try:
        content, status = read_regular_with_status(path, _MAX_BYTES)
        text = content.decode()
    except OSError as error:
        raise UnusableValueError(error.strerror) from None
    except UnicodeDecodeError:
        raise UnusableValueError("not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise UnusableValueError("empty")
    how = exposed(status)
    advice = (
        None if how is None else f"{path} can be {how} by users other than its owner; run `chmod 0400 {path}`"
    )
    return text, advice


def exposed(status: os.stat_result) -> str | None:
    """Return what users other than the owner can do with a secret file: `read` or `written`; None if neither."""
    # The group may read a file that belongs to root: a service that does not run as root, e.g. in Kubernetes, receives
    # its secrets this way.
    readable = stat.S_IRWXO | (0 if status.st_uid == 0 else stat.S_IRWXG)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "written"
    return "read" if status.st_mode & readable else None

"""The System V shared memory of a killed PostgreSQL."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_IPC_RMID = 0
_LINE = 6
"""Index of the line `key id` in `postmaster.pid`."""


def remove_segment(data: Path) -> None:
    """Remove the segment that a server with these files left when it was killed, if there is one.

    A killed server leaves 56 bytes, and a machine has 4,096 segments. Once they are used up, no server starts.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        identifier = int((data / "postmaster.pid").read_text().splitlines()[_LINE].split()[1])
        ctypes.CDLL(None).shmctl(identifier, _IPC_RMID, None)

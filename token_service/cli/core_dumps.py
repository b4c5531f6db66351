"""Keeps private keys out of core dumps."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from typing import Final

PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4

logger = logging.getLogger(__name__)


def forbid_core_dumps(*, also_to_programs: bool) -> None:
    """Let no crash of this process or its workers write their memory to disk.

    `also_to_programs`: nor hand it to the program that the kernel is configured to pipe core dumps to, which
    the limit does not keep from it. Debuggers of the same user are then refused as well.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if also_to_programs and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            logger.warning("core dumps can't be forbidden (errno %d)", ctypes.get_errno())

"""Protection of private keys against core dumps."""

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
    """Disable core dumps of this process and its workers.

    `also_to_programs` also disables core dumps that the kernel pipes to a program; the resource limit does not cover
    these. It also refuses debuggers of the same user.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if also_to_programs and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            logger.warning("core dumps could not be disabled (errno %d)", ctypes.get_errno())

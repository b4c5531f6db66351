"""Random bytes of the operating system, fetched in blocks.

On a virtual machine a system call may take as long as a signature, and a token needs several random values.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Final

_BLOCK: Final = 4096


class RandomBlocks:
    """A cryptographically secure source: `source(n)` returns n bytes. Any thread may call it.

    A byte is handed out once and then overwritten. A forked process fetches its own block.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._block = bytearray()
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, size: int) -> bytes:
        """Return `size` random bytes."""
        if size > _BLOCK // 4:
            return os.urandom(size)
        with self._lock:
            end = self._used + size
            if end > len(self._block):
                self._block = bytearray(os.urandom(_BLOCK))
                self._used, end = 0, size
            found = bytes(self._block[self._used : end])
            self._block[self._used : end] = bytes(size)
            self._used = end
        return found

    def _forget(self) -> None:
        # Another thread may have held the lock at the fork.
        self._lock = Lock()
        self._block = bytearray()
        self._used = 0


random_bytes: Final = RandomBlocks()
"""The source of this process."""

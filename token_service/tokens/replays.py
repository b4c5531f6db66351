"""Memory of one-time identifiers for a short time, in one process."""

from __future__ import annotations

import hashlib
import threading
from typing import Final

from token_service.errors import OverloadedError

MAX_REMEMBERED_PROOFS: Final = 500_000
_DIGEST_BYTES: Final = 16


class Replays:
    """Identifiers that were used in the last seconds. Any thread may call it; it does no I/O.

    An identifier is remembered for at least `window` and at most twice `window` seconds. Memory is bounded: when
    `capacity` identifiers are held, `use` raises an error, because to forget one would admit its repetition.
    """

    __slots__ = ("_capacity", "_lock", "_old", "_turn_at", "_window", "_young")

    def __init__(self, window: float, capacity: int = MAX_REMEMBERED_PROOFS) -> None:
        """Configure the memory. One identifier takes about 100 bytes."""
        self._window = window
        self._capacity = capacity
        self._lock = threading.Lock()
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turn_at = float("-inf")

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def use(self, scope: str, identifier: str, elapsed: float) -> bool:
        """Record the use of an identifier; return whether it is the first use in its scope.

        `elapsed` is the time of a clock that never jumps, in seconds. Raises `OverloadedError` if the memory is full.
        """
        digest = hashlib.sha256(f"{len(scope)}:{scope}{identifier}".encode()).digest()[:_DIGEST_BYTES]
        with self._lock:
            if elapsed >= self._turn_at:
                # After a pause longer than the window, the young ones are old enough to be forgotten, too.
                forget_both = elapsed >= self._turn_at + self._window
                self._old = set() if forget_both else self._young
                self._young = set()
                self._turn_at = elapsed + self._window
            if digest in self._young or digest in self._old:
                return False
            if len(self) >= self._capacity:
                raise OverloadedError(
                    f"{self._capacity} DPoP proofs are remembered already; retry later", retry_after=1.0
                )
            self._young.add(digest)
            return True

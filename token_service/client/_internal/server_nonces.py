"""The DPoP nonces that servers gave (RFC 9449, sections 8 and 9)."""

from __future__ import annotations

import re
import threading
from typing import Final

_NONCE: Final = re.compile(r"[!#-\[\]-~]{1,1024}")  # RFC 9449, section 8.1
_CAPACITY: Final = 256


class ServerNonces:
    """The newest nonce of each server, for the servers that gave a new one last. Any thread may use it."""

    __slots__ = ("_capacity", "_lock", "_nonces")

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._nonces: dict[str, str] = {}

    def get(self, server: str) -> str | None:
        """Return the newest nonce of a server; None: it gave none."""
        return self._nonces.get(server)

    def put(self, server: str, nonce: str | None) -> None:
        """Remember a nonce of a server. Ignores None and malformed nonces."""
        if nonce is None or self._nonces.get(server) == nonce or _NONCE.fullmatch(nonce) is None:
            return
        with self._lock:
            self._nonces.pop(server, None)  # the newest is the last
            self._nonces[server] = nonce
            if len(self._nonces) > self._capacity:
                del self._nonces[next(iter(self._nonces))]

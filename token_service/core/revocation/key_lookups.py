"""Looks in the log for keys that another node may have just made."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.keys.keyring import Keyring
from token_service.core.revocation.tailer import Tailer

_APART: Final = 0.05
"""Seconds between two looks: the limit on reads caused by tokens with unknown keys."""


class KeyLookups:
    """Tells whether the unknown key of a token exists by now. Concurrent calls share looks at the log."""

    def __init__(self, tailer: Tailer, keyring: Keyring, clock: Clock) -> None:
        self._tailer = tailer
        self._keyring = keyring
        self._clock = clock

    async def look(self, asked: float | None = None) -> bool:
        """Tell whether the key set changed after a look at the log that began after `asked`.

        `asked` is the monotonic time at which the token arrived, so one look serves all tokens that arrived
        together; None: now. Raises `StoreUnavailableError`.
        """
        revision = self._keyring.revision
        since = self._clock.monotonic() if asked is None else asked
        await self._tailer.look_since(since, apart=_APART, unless=lambda: self._keyring.revision != revision)
        return self._keyring.revision != revision

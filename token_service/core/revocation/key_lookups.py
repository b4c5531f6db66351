"""Looks for keys that another node may just have made."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.keys.keyring import Keyring
from token_service.core.revocation.tailer import Tailer

_APART: Final = 0.05
"""Seconds between two looks. Tokens with unknown keys cause no more reads than that."""


class KeyLookups:
    """Answers whether a token's unknown key exists by now. Calls share their looks at the log."""

    def __init__(self, tailer: Tailer, keyring: Keyring, clock: Clock) -> None:
        self._tailer = tailer
        self._keyring = keyring
        self._clock = clock

    async def look(self, asked: float | None = None) -> bool:
        """Return whether keys turned up that this node did not know.

        `asked`: since when (monotonic) the token is here, so that one look does for all that came together;
        None: since now. No call is answered without a look that began after it was made. Raises
        `StoreUnavailableError`.
        """
        revision = self._keyring.revision
        since = self._clock.monotonic() if asked is None else asked
        await self._tailer.look_since(since, apart=_APART, unless=lambda: self._keyring.revision != revision)
        return self._keyring.revision != revision

"""Records when client secrets were used last, without a write for each use."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from token_service.clock import Clock
from token_service.core.clients.store import ClientStore
from token_service.errors import TokenServiceError

INTERVAL: Final = 10.0
"""Seconds between two rounds of writing. A node that is killed loses the uses since the last one."""
_EXACTNESS: Final = 60.0
"""Seconds by which a recorded use may be older than the last one."""
_MAX_KNOWN: Final = 100_000

logger = logging.getLogger(__name__)


class SecretUses:
    """Collects the uses of secrets and writes them in the background. For one event loop."""

    def __init__(self, store: ClientStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._written: dict[tuple[str, str], float] = {}
        self._pending: dict[tuple[str, str], float] = {}

    def note(self, client_id: str, secret_id: str) -> None:
        """Note a use, without blocking."""
        now, secret = self._clock.now(), (client_id, secret_id)
        if now - self._written.get(secret, float("-inf")) >= _EXACTNESS:
            self._pending[secret] = now

    async def run(self) -> None:
        """Write the noted uses until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.write()

    async def write(self) -> None:
        """Write the noted uses. A failed one is lost; a later use is noted again."""
        pending, self._pending = self._pending, {}
        if len(self._written) > _MAX_KNOWN:
            self._written.clear()
        for (client_id, secret_id), time in pending.items():
            try:
                await self._store.note_use(client_id, secret_id, time)
            except TokenServiceError as error:
                logger.warning("the last use of a client secret could not be recorded: %s", error.message)
                return
            self._written[client_id, secret_id] = time

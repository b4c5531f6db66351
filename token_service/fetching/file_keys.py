"""Keys from a file: a key set, or the bundle of a SPIFFE trust domain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from token_service.clock import Clock
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.failure import FetchError
from token_service.fetching.held_keys import HeldKeys, Loaded, Pace
from token_service.files import read_regular

_INTERVAL: Final = 1.0
"""Seconds between two reads of a file in use."""
_PACE: Final = Pace(
    timeout=5.0, unknown_key_interval=_INTERVAL, longest_retry=_INTERVAL, last_good=float("inf")
)


class FileKeys(HeldKeys):
    """The keys in a file. A changed file counts within a second of use.

    The last usable keys stay in force while the file is missing or unusable. The content decides whether it changed:
    the time of a file has too coarse a resolution.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(str(path), _PACE, clock)
        self._path = path

    async def _load(self) -> Loaded:
        try:
            content = await asyncio.to_thread(read_regular, self._path, MAX_DOCUMENT_BYTES)
        except OSError as error:
            raise FetchError(f"the file can't be read: {error.strerror}") from None
        return Loaded(content, _INTERVAL)

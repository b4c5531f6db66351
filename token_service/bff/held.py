"""A document of the provider that is fetched once and kept: the discovery document, or the key set."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from token_service.bff.failures import ProviderUnavailableError
from token_service.client._internal.single_flight import SingleFlight
from token_service.clock import Clock

DOCUMENT_LIFETIME: Final = 600.0
"""Seconds after which a document is fetched again. The last one stays in force while that fails."""
FETCHED_AGAIN: Final = 10.0
"""Seconds between two fetches that unknown keys cause, and after a failed fetch."""

T = TypeVar("T")


class Held(Generic[T]):
    """One document. Concurrent calls share a fetch."""

    def __init__(self, fetch: Callable[[], Coroutine[Any, Any, T]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._failed_at = float("-inf")
        self._flights: SingleFlight[None, T] = SingleFlight()

    async def get(self) -> T:
        """Return the document. Raises `ProviderUnavailableError` if it could never be fetched."""
        now = self._clock.monotonic()
        if self._value is None:
            return await self._again()
        if now >= self._fetched_at + DOCUMENT_LIFETIME and now >= self._failed_at + FETCHED_AGAIN:
            try:
                return await self._again()
            except ProviderUnavailableError:
                return self._value
        return self._value

    async def newer(self) -> T:
        """Return the document, fetched again unless that was done a moment ago: something is missing in it."""
        if self._clock.monotonic() < max(self._fetched_at, self._failed_at) + FETCHED_AGAIN:
            return await self.get()
        return await self._again()

    async def aclose(self) -> None:
        """Cancel a fetch in progress."""
        await self._flights.close()

    async def _again(self) -> T:
        return await self._flights.do(None, self._fetch_once)

    async def _fetch_once(self) -> T:
        try:
            value = await self._fetch()
        except ProviderUnavailableError:
            self._failed_at = self._clock.monotonic()
            raise
        self._value = value
        self._fetched_at = self._clock.monotonic()
        return value

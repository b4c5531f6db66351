from __future__ import annotations

import asyncio

import pytest

from tests.unit.bff.conftest import VirtualClock
from token_service.bff.failures import ProviderUnavailableError
from token_service.bff.held import DOCUMENT_LIFETIME, FETCHED_AGAIN, Held


class Source:
    """Counts its fetches, which fail on demand."""

    def __init__(self) -> None:
        self.fetches = 0
        self.down = False

    async def fetch(self) -> int:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.down:
            raise ProviderUnavailableError("down")
        return self.fetches


async def test_document_is_fetched_once_in_its_lifetime(clock: VirtualClock) -> None:
    source = Source()
    held = Held(source.fetch, clock)
    assert await asyncio.gather(*(held.get() for _ in range(5))) == [1] * 5
    clock.advance(DOCUMENT_LIFETIME - 1)
    assert await held.get() == 1
    clock.advance(1)
    assert await held.get() == 2


async def test_last_document_stays_while_fetches_fail(clock: VirtualClock) -> None:
    source = Source()
    held = Held(source.fetch, clock)
    await held.get()
    source.down = True
    clock.advance(DOCUMENT_LIFETIME)
    assert [await held.get() for _ in range(5)] == [1] * 5
    assert source.fetches == 2, "a failed fetch is not repeated at once"
    source.down = False
    clock.advance(FETCHED_AGAIN)
    assert await held.get() == 3


async def test_missing_document_is_an_outage(clock: VirtualClock) -> None:
    source = Source()
    source.down = True
    held = Held(source.fetch, clock)
    with pytest.raises(ProviderUnavailableError):
        await held.get()
    source.down = False
    assert await held.get() == 2


async def test_newer_document_is_fetched_at_most_every_ten_seconds(clock: VirtualClock) -> None:
    source = Source()
    held = Held(source.fetch, clock)
    await held.get()
    assert [await held.newer() for _ in range(3)] == [1] * 3
    clock.advance(FETCHED_AGAIN)
    assert [await held.newer() for _ in range(3)] == [2] * 3

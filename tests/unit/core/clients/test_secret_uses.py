"""The last use of a secret is written seldom, and never in the way of a call."""

from __future__ import annotations

import logging

import pytest

from tests.unit.core.virtual_time import START, ManualClock
from token_service.core.clients.secret_uses import SecretUses
from token_service.errors import StoreUnavailableError


class Store:
    def __init__(self) -> None:
        self.written: list[tuple[str, str, float]] = []
        self.failing = False

    async def note_use(self, client_id: str, secret_id: str, time: float) -> None:
        if self.failing:
            raise StoreUnavailableError
        self.written.append((client_id, secret_id, time))


def scene() -> tuple[SecretUses, Store, ManualClock]:
    store, clock = Store(), ManualClock()
    return SecretUses(store, clock), store, clock  # type: ignore[arg-type]  # the one used method


async def test_uses_are_written_once_a_minute() -> None:
    uses, store, clock = scene()
    for second in range(0, 120, 5):
        clock.elapsed = float(second)
        uses.note("app", "1")
        await uses.write()
    assert store.written == [("app", "1", START), ("app", "1", START + 60)]


async def test_each_secret_is_written_with_its_last_use() -> None:
    uses, store, clock = scene()
    uses.note("app", "1")
    clock.elapsed = 3.0
    uses.note("app", "1")
    uses.note("app", "2")
    await uses.write()
    assert store.written == [("app", "1", START + 3), ("app", "2", START + 3)]
    await uses.write()
    assert len(store.written) == 2


async def test_failed_write_is_logged_and_the_next_use_is_written(caplog: pytest.LogCaptureFixture) -> None:
    uses, store, clock = scene()
    store.failing = True
    uses.note("app", "1")
    with caplog.at_level(logging.WARNING):
        await uses.write()
    assert "could not be recorded" in caplog.text
    store.failing = False
    clock.elapsed = 1.0
    uses.note("app", "1")
    await uses.write()
    assert store.written == [("app", "1", START + 1)]

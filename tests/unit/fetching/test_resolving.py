from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tests.support.deadline import eventually
from token_service.fetching.failure import FetchError
from token_service.fetching.resolving import SystemResolver


class HangingLookUps:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        self.go.wait(60)
        return [f"203.0.113.{port}"]


async def test_literal_address_and_localhost_are_resolved() -> None:
    resolve = SystemResolver()
    assert list(await resolve("127.0.0.1", 1)) == ["127.0.0.1"]
    assert list(await resolve("2130706433", 1)) == ["127.0.0.1"]  # the same address in another spelling
    assert {"127.0.0.1", "::1"} >= set(await resolve("localhost", 1))


async def test_unknown_host_is_a_failed_fetch() -> None:
    def look_up(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(FetchError, match=r"nowhere\.example can't be resolved: .*Name or service not known"):
        await SystemResolver(look_up)("nowhere.example", 1)


async def test_callers_share_the_look_up_of_a_host_and_cancelling_one_does_not_end_it() -> None:
    look_up = HangingLookUps()
    resolve = SystemResolver(look_up)
    first, second, other = (asyncio.ensure_future(resolve(host, 1)) for host in ("a", "a", "b"))
    await eventually(lambda: len(look_up.asked) == 2)
    first.cancel()
    await asyncio.wait([first])
    look_up.go.set()
    assert (await second, await other) == (["203.0.113.1"], ["203.0.113.1"])
    assert sorted(look_up.asked) == ["a", "b"]


async def test_number_of_look_ups_is_bounded_until_they_end() -> None:
    look_up = HangingLookUps()
    resolve = SystemResolver(look_up)
    waiting = [asyncio.ensure_future(resolve(str(number), 1)) for number in range(8)]
    await eventually(lambda: len(look_up.asked) == 8)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    with pytest.raises(FetchError, match="have not ended yet"):
        await resolve("another", 1)
    look_up.go.set()
    await eventually(lambda: not resolve._running)
    assert await resolve("another", 1) == ["203.0.113.1"]

"""`LeaseStore` over every backend."""

from __future__ import annotations

import asyncio

from tests.support.deadline import eventually


async def test_one_holder_at_a_time(pair):
    assert await pair[0].leases.acquire("janitor", "a", 60)
    assert not await pair[1].leases.acquire("janitor", "b", 60)
    assert await pair[0].leases.acquire("janitor", "a", 60)


async def test_leases_of_different_names_are_apart(stores):
    assert await stores.leases.acquire("janitor", "a", 60)
    assert await stores.leases.acquire("keys", "b", 60)


async def test_a_released_lease_is_free(pair):
    await pair[0].leases.acquire("janitor", "a", 60)
    await pair[0].leases.release("janitor", "a")
    assert await pair[1].leases.acquire("janitor", "b", 60)


async def test_only_the_holder_releases(pair):
    await pair[0].leases.acquire("janitor", "a", 60)
    await pair[1].leases.release("janitor", "b")
    await pair[1].leases.release("other", "b")
    assert not await pair[1].leases.acquire("janitor", "b", 60)


async def test_a_lease_runs_out(pair):
    assert await pair[0].leases.acquire("janitor", "a", 0.2)
    assert await eventually(lambda: pair[1].leases.acquire("janitor", "b", 60))
    assert not await pair[0].leases.acquire("janitor", "a", 60)


async def test_a_renewed_lease_does_not(pair):
    assert await pair[0].leases.acquire("janitor", "a", 0.05)
    assert await pair[0].leases.acquire("janitor", "a", 60)
    await asyncio.sleep(0.1)  # longer than the first one would have lasted
    assert not await pair[1].leases.acquire("janitor", "b", 60)


async def test_one_of_many_gets_it(pair):
    for round_ in range(5):
        answers = await asyncio.gather(
            *(pair[n % 2].leases.acquire(f"lease {round_}", f"node {n}", 60) for n in range(16))
        )
        assert sum(answers) == 1


async def test_when_a_lease_was_held_last_is_remembered(pair):
    leases = pair[0].leases
    assert await leases.last_held("janitor") is None
    assert await leases.acquire("janitor", "a", 60)
    until = await leases.last_held("janitor")
    now = (await pair[1].log.head()).read_time
    assert now + 50 < until < now + 61
    await pair[1].leases.release("janitor", "a")
    released = await leases.last_held("janitor")
    assert now <= released < until - 50
    await leases.release("janitor", "a")  # late, and nothing to do with when it was held
    assert await leases.last_held("janitor") == released
    assert await leases.acquire("janitor", "b", 60)
    await leases.release("janitor", "a")
    assert await leases.last_held("janitor") > released + 50

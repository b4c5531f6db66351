"""`LeaseStore` over every backend."""

from __future__ import annotations

import asyncio

from tests.support.deadline import eventually


async def test_a_lease_has_one_holder(pair):
    assert await pair[0].leases.acquire("janitor", "a", 60)
    assert not await pair[1].leases.acquire("janitor", "b", 60)
    assert await pair[0].leases.acquire("janitor", "a", 60)


async def test_leases_of_different_names_are_independent(stores):
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


async def test_a_renewed_lease_outlives_its_first_period(pair):
    assert await pair[0].leases.acquire("janitor", "a", 0.05)
    assert await pair[0].leases.acquire("janitor", "a", 60)
    await asyncio.sleep(0.1)  # longer than the first period
    assert not await pair[1].leases.acquire("janitor", "b", 60)


async def test_holders_are_those_of_unexpired_leases(pair):
    leases = pair[0].leases
    assert await leases.holders() == {}
    await leases.acquire("janitor", "a", 60)
    await leases.acquire("keys", "b", 60)
    await leases.acquire("audit", "a", 60)
    await leases.release("audit", "a")
    await leases.note("time", 4e9)
    assert await pair[1].leases.holders() == {"janitor": "a", "keys": "b"}


async def test_one_of_many_concurrent_nodes_acquires_a_lease(pair):
    for round_ in range(5):
        answers = await asyncio.gather(
            *(pair[n % 2].leases.acquire(f"lease {round_}", f"node {n}", 60) for n in range(16))
        )
        assert sum(answers) == 1


async def test_every_node_reads_the_earliest_time(pair):
    one, other = pair[0].leases, pair[1].leases
    assert await one.earliest("time", 1000.000001) == 1000.000001
    assert await other.earliest("time", 2000.0) == 1000.000001
    assert await other.earliest("time", 500.0) == 500.0
    assert await one.earliest("time", 1000.0) == 500.0
    assert await one.earliest("another", 1000.0) == 1000.0


async def test_note_replaces_an_earlier_or_later_time(pair):
    for time in (1000.0, 2000.0, 1500.0):
        await pair[0].leases.note("time", time)
        assert await pair[1].leases.earliest("time", 3000.0) == time


async def test_concurrent_earliest_times_leave_the_smallest(pair):
    times = [1000.0 + number * 7 % 16 for number in range(16)]
    await asyncio.gather(*(pair[n % 2].leases.earliest("time", time) for n, time in enumerate(times)))
    assert await pair[0].leases.earliest("time", 9000.0) == 1000.0

"""What the stores tell about the connections to the database: use, waits, locks."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from tests.support.deadline import eventually


async def test_pool_tells_use_and_waits(sql_backend) -> None:
    waits: list[float] = []
    async with sql_backend.open(pool_size=3) as stores:
        pool = stores.pool
        pool.on_wait(waits.append)
        assert (pool.used, pool.waiting, pool.most) == (0, 0, 1)
        held, release = asyncio.Event(), asyncio.Event()

        async def hold(_) -> None:
            held.set()
            await release.wait()

        async def look(_) -> None:
            assert pool.used == 1

        first = asyncio.create_task(stores._database.read(hold))
        await held.wait()
        second = asyncio.create_task(stores._database.read(look))
        await eventually(lambda: pool.waiting == 1)
        assert len(waits) == 1
        release.set()
        await asyncio.gather(first, second)
        assert (pool.used, pool.idle, pool.waiting) == (0, 1, 0)
        assert len(waits) == 2
        assert waits[1] > 0


async def test_waits_for_locks_are_told(sql_backend) -> None:
    async with sql_backend.open() as stores, sql_backend.open() as other:
        assert stores.has_lock_waits is (sql_backend.name == "postgres")
        if not stores.has_lock_waits:
            return
        assert await other.lock_waits() == (0, 0.0)
        locked, release = asyncio.Event(), asyncio.Event()

        async def hold(connection) -> None:
            await connection.execute(sa.text("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"))
            locked.set()
            await release.wait()

        holding = asyncio.create_task(stores._database.write(hold))
        await locked.wait()
        waiting = asyncio.create_task(stores.leases.earliest("x", 1.0))

        async def is_seen() -> bool:
            count, age = await other.lock_waits()
            return count == 1 and age > 0

        await eventually(is_seen)
        release.set()
        await asyncio.gather(holding, waiting)
        assert await other.lock_waits() == (0, 0.0)

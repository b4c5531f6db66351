from __future__ import annotations

import asyncio

from tests.support.memory_stores import MemoryStores
from tests.unit.core.virtual_time import START, LoopClock, virtual_time
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.core.events.keeper import AuditKeeper, KeeperRules
from token_service.core.events.verification import verify
from token_service.core.leases import Lease

DAY = 86_400.0


def an_event(action: Action = Action.LOG_RENEWED) -> AuditEvent:
    return AuditEvent(action=action, actor=Actor.system("test"))


def a_keeper(stores: MemoryStores, clock: LoopClock, holder: str = "node-1") -> AuditKeeper:
    return AuditKeeper(
        stores.audit,
        stores.events,
        Lease(stores.leases, "audit", holder),
        clock,
        KeeperRules(60.0, retention=10 * DAY),
    )


@virtual_time
async def test_checkpoint_follows_new_events_within_the_interval() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    task = asyncio.create_task(a_keeper(stores, clock).run())
    await asyncio.sleep(1)
    assert [each.number for each in stores.audit.written] == [1]
    await stores.audit.append([an_event()])
    await asyncio.sleep(60)
    (head,) = stores.audit.written[-1].heads.values()
    assert (len(stores.audit.written), head.position) == (2, 1)
    await asyncio.sleep(600)
    assert len(stores.audit.written) == 2
    task.cancel()


@virtual_time
async def test_events_and_checkpoints_are_deleted_at_their_age_and_the_rest_verifies() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    await stores.audit.append([an_event()])
    task = asyncio.create_task(a_keeper(stores, clock).run())
    await asyncio.sleep(9 * DAY)
    assert len(stores.audit.by_place) == 1
    assert min(each.create_time for each in stores.audit.written) >= (START + DAY) * 1e6
    await stores.audit.append([an_event()])
    await asyncio.sleep(1.1 * DAY)
    assert [position for _, position in stores.audit.by_place] == [2]
    assert (await verify(stores.audit)).findings == []
    task.cancel()


@virtual_time
async def test_node_without_the_lease_does_nothing() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    await a_keeper(stores, clock).keep()
    await stores.audit.append([an_event()])
    await a_keeper(stores, clock, "node-2").keep()
    assert len(stores.audit.written) == 1


@virtual_time
async def test_events_leave_the_event_log_at_their_age() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    await stores.audit.append([an_event(action=Action.CLIENT_UPDATED)])
    await stores.events.sequence(10)
    task = asyncio.create_task(a_keeper(stores, clock).run())
    await asyncio.sleep(6.9 * DAY)
    assert len(await stores.events.read(0, 10)) == 1
    await asyncio.sleep(0.2 * DAY)
    assert (await stores.events.read(0, 10), (await stores.events.head()).purged) == ([], 1)
    task.cancel()

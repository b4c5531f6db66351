"""`UsedIds` over every backend."""

from __future__ import annotations

import asyncio

from tests.contract.builders import NOW
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditFilter


async def test_identifier_is_used_once_in_its_scope(stores):
    assert await stores.used_ids.use("a", "1", NOW + 60, NOW)
    assert not await stores.used_ids.use("a", "1", NOW + 60, NOW)
    assert not await stores.used_ids.use("a", "1", NOW + 90, NOW + 30)
    assert await stores.used_ids.use("a", "2", NOW + 60, NOW)
    assert await stores.used_ids.use("b", "1", NOW + 60, NOW)


async def test_scope_and_identifier_do_not_run_together(stores):
    assert await stores.used_ids.use("a", "b1", NOW + 60, NOW)
    assert await stores.used_ids.use("ab", "1", NOW + 60, NOW)


async def test_one_of_concurrent_uses_on_two_nodes_is_first(pair):
    for identifier in map(str, range(5)):
        answers = await asyncio.gather(
            *(pair[n % 2].used_ids.use("a", identifier, NOW + 60, NOW) for n in range(16))
        )
        assert answers.count(True) == 1


async def test_identifier_is_remembered_for_a_minute_after_its_expiry(stores):
    assert await stores.used_ids.use("a", "1", NOW + 60, NOW)
    assert not await stores.used_ids.use("a", "1", NOW + 60, NOW + 119)
    # A later use of another identifier removes it.
    assert await stores.used_ids.use("a", "2", NOW + 300, NOW + 121)
    assert await stores.used_ids.use("a", "1", NOW + 300, NOW + 121)


async def test_recorded_use_is_told(stores):
    assert not await stores.used_ids.was_used("a", "1")
    await stores.used_ids.use("a", "1", NOW + 60, NOW)
    assert await stores.used_ids.was_used("a", "1")
    assert not await stores.used_ids.was_used("b", "1")


async def test_events_are_written_with_the_first_use_only(pair):
    events = [
        AuditEvent(
            action=Action.SECURITY_EVENT_RECEIVED, actor=Actor.system("test"), target=Target("x", str(n))
        )
        for n in range(2)
    ]
    answers = await asyncio.gather(
        *(pair[n % 2].used_ids.use("a", "1", NOW + 60, NOW, events) for n in range(6))
    )
    assert answers.count(True) == 1
    rows = await pair[0].audit.list(AuditFilter(target_kind="x"), limit=10, after=None)
    assert sorted(row.target_id for row in rows) == ["0", "1"]

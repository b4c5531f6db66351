"""`LogoutStore` over every backend."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from tests.contract.builders import NOW, a_draft, a_session, digest
from token_service.core.logout.store import Backlog, Delivery, EndedSession
from token_service.core.sessions.store import SessionFilter
from token_service.tokens.revocation import RevocationTarget

SUBJECT, CLIENT = SessionFilter.SUBJECT, SessionFilter.CLIENT


def ended(number: int, client_id: str = "web", subject: str = "alice") -> EndedSession:
    return EndedSession(UUID(int=number), client_id, subject)


async def add(stores, number: int, **changes: Any) -> EndedSession:
    """Add a session that began `number` seconds after NOW."""
    session = a_session(id=UUID(int=number), create_time=NOW + number, **changes)
    await stores.sessions.create(session, None)
    return EndedSession(session.id, session.client_id, session.subject)


async def append(stores, target: RevocationTarget, value: object = "", **changes: Any):
    _, entries = await stores.log.append([a_draft(target, value, **changes)])
    return entries[0]


async def test_sessions_are_found_by_id(stores):
    found = [await add(stores, number) for number in (2, 1)]
    await add(stores, 3)
    await add(stores, 4, personal_hash=digest("personal"), refresh_hash=None)
    await append(stores, RevocationTarget.SESSION, UUID(int=1))
    ids = [UUID(int=number) for number in (2, 1, 4, 5)]
    assert await stores.logouts.sessions(ids) == found[::-1]
    assert await stores.logouts.sessions([]) == []


async def test_entry_ends_the_sessions_that_lived_before_it(stores):
    await add(stores, 1, idle_expire_time=NOW + 20)
    await add(stores, 2)
    await append(stores, RevocationTarget.SESSION, UUID(int=2), revoke_time=NOW + 19)
    await add(stores, 3, personal_hash=digest("personal"), refresh_hash=None)
    of_bob = await add(stores, 4, subject="bob")
    of_app = await add(stores, 5, client_id="app")
    live = await add(stores, 6)
    await append(stores, RevocationTarget.SESSION, UUID(int=1), revoke_time=NOW + 21)
    entry = await append(stores, RevocationTarget.SUBJECT, "alice", revoke_time=NOW + 20)
    await append(stores, RevocationTarget.SESSION, UUID(int=6), revoke_time=NOW + 21)
    await add(stores, 7)
    by = stores.logouts.sessions_ended_by
    assert await by(SUBJECT, "alice", entry, 10) == [live, of_app]
    assert await by(SUBJECT, "alice", entry, 1) == [live]
    assert await by(CLIENT, "web", entry, 10) == [live, of_bob]
    assert await by(CLIENT, "alice", entry, 10) == []


async def test_plan_moves_the_cursor_with_its_deliveries(stores):
    logouts = stores.logouts
    assert (await logouts.cursor(), await logouts.backlog()) == (0, Backlog())
    assert await logouts.plan([ended(1), ended(2)], 0, 7, NOW)
    assert (await logouts.cursor(), await logouts.backlog()) == (7, Backlog(2, NOW))
    assert not await logouts.plan([ended(3)], 0, 8, NOW)
    assert await logouts.plan([], 7, 9, NOW)
    assert await logouts.plan([ended(2), ended(4)], 9, 9, NOW + 1)
    assert (await logouts.cursor(), (await logouts.backlog()).count) == (9, 3)
    assert await logouts.due(NOW, 10, []) == [Delivery(ended(1), NOW), Delivery(ended(2), NOW)]


async def test_only_one_of_two_plans_at_once_counts(stores):
    plans = (stores.logouts.plan([ended(number)], 0, number, NOW) for number in range(1, 6))
    assert sorted(await asyncio.gather(*plans)) == [False] * 4 + [True]
    assert (await stores.logouts.backlog()).count == 1


async def test_due_leaves_out_later_ones_and_busy_clients(stores):
    logouts = stores.logouts
    everything = [ended(1), ended(2, "app"), ended(3, "other", "bob")]
    await logouts.plan(everything, 0, 1, NOW)
    assert await logouts.due(NOW - 0.1, 10, []) == []
    assert [each.session for each in await logouts.due(NOW, 10, [])] == everything
    assert [each.session for each in await logouts.due(NOW, 2, ["web"])] == everything[1:]
    assert [each.session for each in await logouts.due(NOW, 1, ["web", "other"])] == [everything[1]]
    await logouts.postpone(UUID(int=1), 3, NOW + 5)
    assert [each.session for each in await logouts.due(NOW + 4, 10, [])] == everything[1:]
    assert (await logouts.due(NOW + 5, 10, []))[-1] == Delivery(everything[0], NOW, 3)
    assert await logouts.backlog() == Backlog(3, NOW)


async def test_client_is_postponed_but_never_advanced(stores):
    logouts = stores.logouts
    await logouts.plan([ended(1), ended(2), ended(3, "app")], 0, 1, NOW)
    await logouts.postpone(UUID(int=1), 1, NOW + 60)
    await logouts.postpone_client("web", NOW + 30)
    assert [each.session.client_id for each in await logouts.due(NOW + 29, 10, [])] == ["app"]
    due = await logouts.due(NOW + 30, 10, ["app"])
    assert due == [Delivery(ended(2), NOW)]
    assert len(await logouts.due(NOW + 60, 10, [])) == 3


async def test_finished_deliveries_are_gone(stores):
    logouts = stores.logouts
    await logouts.plan([ended(1), ended(2)], 0, 1, NOW)
    await logouts.finish([UUID(int=1), UUID(int=9)])
    await logouts.postpone(UUID(int=1), 1, NOW)
    assert [each.session for each in await logouts.due(NOW, 10, [])] == [ended(2)]

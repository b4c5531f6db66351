"""`RevocationEntries` and `AuditStore.of_entries` over every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from msgspec import structs

from tests.contract.builders import NOW, a_draft, a_session
from token_service.core.events.event import Actor
from token_service.core.personal_data.keys import PLAIN
from token_service.core.revocation.drafts import event_of
from token_service.core.revocation.entries import EntryFilter
from token_service.stores.sql import SqlStores, revocation_entries
from token_service.stores.sql.audit_entries import select_of_entries
from token_service.tokens.revocation import RevocationReason, RevocationTarget

SESSION = UUID(int=7)
EVERY = EntryFilter()
ADA = Actor("caller", "ada")


def audited(target: RevocationTarget, value: object = "", **changes):
    draft = a_draft(target, value, **changes)
    return replace(draft, event=event_of(draft, ADA))


async def append_some(stores, *, make=a_draft) -> None:
    await stores.sessions.create(a_session(id=SESSION), None)
    await stores.log.append(
        [
            make(RevocationTarget.TOKEN_ID, "jti-1", comment="first"),
            make(RevocationTarget.SESSION, SESSION, reason=RevocationReason.LOGOUT),
            make(RevocationTarget.SUBJECT, "alice", comment="left"),
            make(RevocationTarget.CLIENT, "web", reason=RevocationReason.COMPROMISED),
            make(RevocationTarget.EVERYTHING),
            make(RevocationTarget.TOKEN_ID, "jti-2", expire_time=NOW + 1),
        ]
    )


async def pages(stores, where=EVERY, *, limit=2, live_at=NOW):
    found, below = [], None
    while True:
        page = await stores.entries.page(where, live_at=live_at, limit=limit, below=below)
        assert page.epoch == (await stores.log.head()).epoch
        assert len(page.entries) <= limit
        found += page.entries
        below = page.next
        if below is None:
            return found


async def test_pages_hold_every_live_entry_once_newest_first(stores):
    await append_some(stores)
    for limit in (1, 2, 5, 6):
        assert [each.revocation.sequence for each in await pages(stores, limit=limit)] == [6, 5, 4, 3, 2, 1]
    found = await pages(stores, limit=50)
    assert [each.revocation.sequence for each in found] == [6, 5, 4, 3, 2, 1]
    assert [each.comment for each in found] == ["", "", "", "left", "", "first"]
    assert found[4].revocation == (await stores.log.read(1, 1))[0]
    assert [each.revocation.sequence for each in await pages(stores, live_at=NOW + 2)] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (EntryFilter(target=RevocationTarget.TOKEN_ID), [6, 1]),
        (EntryFilter(target=RevocationTarget.TOKEN_ID, value="jti-1"), [1]),
        (EntryFilter(target=RevocationTarget.SESSION, value=str(SESSION)), [2]),
        (EntryFilter(target=RevocationTarget.SUBJECT, value="bob"), []),
        (EntryFilter(target=RevocationTarget.EVERYTHING), [5]),
        (EntryFilter(reason=RevocationReason.COMPROMISED), [4]),
        (EntryFilter(target=RevocationTarget.SUBJECT, reason=RevocationReason.COMPROMISED), []),
    ],
)
async def test_conditions_select_entries(stores, where, expected):
    await append_some(stores)
    for limit in (1, 50):
        found = [each.revocation.sequence for each in await pages(stores, where, limit=limit)]
        assert found == expected


async def test_entry_appended_during_paging_moves_no_other(stores):
    await append_some(stores)
    first = await stores.entries.page(EVERY, live_at=NOW, limit=2, below=None)
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "bob")])
    rest = await stores.entries.page(EVERY, live_at=NOW, limit=50, below=first.next)
    assert [each.revocation.sequence for each in rest.entries] == [4, 3, 2, 1]


async def test_compacted_entries_are_not_listed(stores):
    assert await pages(stores) == []
    await append_some(stores)
    await stores.log.compact(NOW + 1e6, 3)
    assert [each.revocation.sequence for each in await pages(stores, limit=1)] == [6, 5, 4]
    head = await stores.log.head()
    renewal = a_draft(RevocationTarget.EVERYTHING)
    await stores.log.renew(renewal, replaces=head.epoch, epoch="renewed-log", sequence=100)
    assert [each.revocation.sequence for each in await pages(stores)] == [100]


async def test_floor_exists_for_a_revoked_target_only(stores):
    assert not await stores.entries.has_floor(RevocationTarget.SUBJECT, "alice")
    await append_some(stores)
    assert await stores.entries.has_floor(RevocationTarget.SUBJECT, "alice")
    assert not await stores.entries.has_floor(RevocationTarget.CLIENT, "alice")
    assert await stores.entries.has_floor(RevocationTarget.EVERYTHING, "")


async def test_events_of_entries_are_found_by_their_cursor(stores):
    times = {"revoke_time": (await stores.log.head()).read_time}
    await append_some(stores, make=lambda *args, **changes: audited(*args, **{**times, **changes}))
    # The same subject is revoked again: the event of the other entry has the same target.
    again = audited(RevocationTarget.SUBJECT, "alice", comment="again", **times)
    bob = structs.replace(again.event, actor=Actor("caller", "bob"))
    await stores.log.append([replace(again, event=bob), a_draft(RevocationTarget.SUBJECT, "no event")])
    entries = [each.revocation for each in await pages(stores)]
    head = await stores.log.head()
    rows = await stores.audit.of_entries(head.epoch, entries)
    assert {sequence: (row.actor_name, row.target_kind, row.comment) for sequence, row in rows.items()} == {
        1: ("ada", "token_id", "first"),
        2: ("ada", "session", ""),
        3: ("ada", "subject", "left"),
        4: ("ada", "client", ""),
        5: ("ada", "everything", ""),
        6: ("ada", "token_id", ""),
        7: ("bob", "subject", "again"),
    }
    assert await stores.audit.of_entries("another-log", entries) == {}
    assert await stores.audit.of_entries(head.epoch, []) == {}


async def test_bounded_page_may_be_empty_although_more_follow(sql_backend, monkeypatch):
    monkeypatch.setattr(revocation_entries, "MAX_ENTRIES_EXAMINED", 2)
    async with sql_backend.open() as stores:
        await append_some(stores)
        where = EntryFilter(target=RevocationTarget.TOKEN_ID, value="jti-1")
        page = await stores.entries.page(where, live_at=NOW, limit=5, below=None)
        assert (page.entries, page.next) == ([], 5)
        assert [each.revocation.sequence for each in await pages(stores, where)] == [1]


async def test_postgresql_reads_pages_and_events_by_indexes(postgres_database):
    plans: list[str] = []
    async with SqlStores(postgres_database) as stores:
        engine = stores._database.engine
        async with engine.begin() as connection:
            for statement in FILL:
                await connection.execute(sa.text(statement))
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("ANALYZE"))
            sent: list[Any] = []

            @sa.event.listens_for(engine.sync_engine, "before_execute")
            def note(_connection, clause, *_):
                sent.append(clause)

            where = EntryFilter(target=RevocationTarget.SESSION, value="v-77", reason=RevocationReason.LOGOUT)
            await stores.entries.page(where, live_at=0.5, limit=51, below=150_000)
            page = await stores.entries.page(EVERY, live_at=0.5, limit=50, below=150_000)
            sa.event.remove(engine.sync_engine, "before_execute", note)
            assert len(page.entries) == 50
            sent.append(select_of_entries([each.revocation for each in page.entries], PLAIN))
            for clause in sent:
                text = str(clause.compile(engine, compile_kwargs={"literal_binds": True}))
                plans.append("\n".join((await connection.execute(sa.text("EXPLAIN " + text))).scalars()))
    assert len(plans) == 11  # two of them read the state of personal data
    for plan in plans:
        assert "Seq Scan on revocations" not in plan, plan
        assert "Seq Scan on audit_events" not in plan, plan
    assert all("revocations_pkey" in plan for plan in plans if " revocations" in plan)


ENTRIES = """
INSERT INTO revocations (sequence, revoke_time, expire_time, target, reason, value, comment)
SELECT n, n, 9e17, 2, 1, 'v-' || n, '' FROM generate_series(1, 200000) n
"""
EVENTS = """
INSERT INTO audit_events (chain_id, position, time, action, category, actor_kind, actor_name, actor_client_id,
  actor_proof, session_id, client_id, target_kind, target_id, outcome, reason, fields, on_behalf_of, subject, comment,
  ip_address, user_agent, personal_hash, key_version, mac)
SELECT 'n', n, n, 'revoked', 'security', 'c', 'c', '', '', 'v-' || n, '', 'session', 'v-' || n, 'success', '', '{}', '',
  '', '', '', '', '', '1', ''
FROM generate_series(1, 50000) n
"""
FILL = (ENTRIES, "UPDATE log_head SET sequence = 200000", EVENTS)

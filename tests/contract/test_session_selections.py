"""`SessionSelections` over every backend: counts and walks of sessions by several conditions."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_rotation, a_session
from token_service.core.personal_data.keys import PLAIN
from token_service.core.revocation.entries import EntryFilter
from token_service.core.sessions.selection import EVERY_SESSION, Accuracy, SessionSelection
from token_service.errors import OverloadedError
from token_service.stores.sql import SqlStores, session_selections
from token_service.stores.sql.engine.turns import MAX_LONG_READS
from token_service.tokens.revocation import RevocationTarget

LIVE = NOW + 30


async def create(stores, number: int, **changes: Any):
    session = a_session(id=UUID(int=number), create_time=NOW + number, **changes)
    await stores.sessions.create(session, None)
    return session


async def walk(stores, selection: SessionSelection, *, limit: int = 2, live_at: float = LIVE) -> list[int]:
    """Return the ids of all parts."""
    found, after = [], None
    while True:
        part = await stores.selections.part(selection, live_at=live_at, limit=limit, after=after)
        assert len(part.session_ids) <= limit
        found += [each.int for each in part.session_ids]
        after = part.next
        if after is None:
            return found


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"subject": "alice"}, [6, 4, 3, 1]),
        ({"client_id": "web"}, [6, 5, 3, 2, 1]),
        ({"device_id": "phone"}, [5, 4]),
        ({"upstream": "corporate"}, [6, 2]),
        ({"subject": "alice", "client_id": "web"}, [6, 3, 1]),
        ({"subject": "alice", "device_id": "phone"}, [4]),
        ({"subject": "bob", "upstream": "corporate"}, [2]),
        ({"client_id": "web", "created_after": NOW + 2, "created_before": NOW + 5}, [3, 2]),
        ({"created_after": NOW + 5}, [6, 5]),
        ({"created_before": NOW + 2}, [1]),
        ({"last_used_before": NOW - 50}, [6, 3]),
        ({"subject": "alice", "last_used_before": NOW - 50}, [6, 3]),
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"subject": "nobody"}, []),
    ],
)
async def test_walk_and_count_find_the_sessions_that_meet_every_condition(stores, selection, expected):
    await create(stores, 1)
    await create(stores, 2, subject="bob", upstream="corporate")
    await create(stores, 3, last_use_time=NOW - 100)
    await create(stores, 4, client_id="app", device_id="phone")
    await create(stores, 5, subject="bob", device_id="phone")
    await create(stores, 6, upstream="corporate", last_use_time=NOW - 100)
    chosen = SessionSelection(**selection)
    for limit in (1, 2, 10):
        assert await walk(stores, chosen, limit=limit) == expected
    reach = await stores.selections.reach(chosen, live_at=LIVE)
    assert (reach.sessions, reach.accuracy) == (len(expected), Accuracy.EXACT)
    oldest = NOW + min(expected) if expected else None
    assert reach.oldest_create_time == pytest.approx(oldest, abs=1e-5)


async def test_sessions_that_ended_are_not_selected(stores):
    for number in range(1, 7):
        await create(stores, number, subject=f"user-{number}", client_id="app" if number == 3 else "web")
    await create(stores, 7, idle_expire_time=LIVE)
    await create(stores, 8, absolute_expire_time=LIVE)
    await stores.log.append(
        [
            a_draft(RevocationTarget.SESSION, UUID(int=1)),
            a_draft(RevocationTarget.SUBJECT, "user-2"),
            a_draft(RevocationTarget.CLIENT, "app"),
        ]
    )
    assert await walk(stores, EVERY_SESSION) == [6, 5, 4]
    assert (await stores.selections.reach(EVERY_SESSION, live_at=LIVE)).sessions == 3
    # An earlier time selects sessions that have expired since then, but none that was revoked.
    assert await walk(stores, EVERY_SESSION, live_at=NOW) == [8, 7, 6, 5, 4]
    await stores.log.append([a_draft(RevocationTarget.EVERYTHING)])
    assert await walk(stores, EVERY_SESSION) == []


async def test_count_names_subjects_and_the_clients_with_most_sessions(stores):
    for number in range(1, 25):
        await create(stores, number, client_id=f"client-{number:02}", subject=f"user-{number % 3}")
    await create(stores, 30, client_id="client-24", absolute_expire_time=NOW + 90_000)
    await create(stores, 31, client_id="client-24")
    reach = await stores.selections.reach(EVERY_SESSION, live_at=LIVE)
    assert (reach.sessions, reach.subjects, reach.clients) == (26, 4, 24)
    assert list(reach.top_clients[:2]) == [("client-24", 3), ("client-01", 1)]
    assert len(reach.top_clients) == 20
    assert reach.last_expire_time == pytest.approx(NOW + 90_000, abs=1e-5)


async def test_rotation_moves_no_session_in_a_walk(stores):
    for number in range(1, 6):
        await create(stores, number)
    selection = SessionSelection(client_id="web")
    first = await stores.selections.part(selection, live_at=LIVE, limit=2, after=None)
    for number in range(1, 6):
        assert await stores.sessions.rotate(a_rotation(UUID(int=number))) is not None
    await create(stores, 9)  # later than the walk, which goes towards older sessions
    rest = await stores.selections.part(selection, live_at=LIVE, limit=9, after=first.next)
    assert [each.int for each in (*first.session_ids, *rest.session_ids)] == [5, 4, 3, 2, 1]


async def test_bounded_part_may_be_empty_although_more_follow(sql_backend, monkeypatch):
    monkeypatch.setattr(session_selections, "MAX_SESSIONS_EXAMINED", 2)
    async with sql_backend.open() as stores:
        await create(stores, 1, upstream="corporate")
        for number in (2, 3, 4):
            await create(stores, number)
        for selection in (
            SessionSelection(upstream="corporate"),
            SessionSelection(subject="alice", upstream="corporate"),
        ):
            part = await stores.selections.part(selection, live_at=LIVE, limit=5, after=None)
            assert part.session_ids == []
            assert part.next is not None
            assert await walk(stores, selection) == [1]


async def test_count_beyond_its_limit_says_so(sql_backend, monkeypatch):
    monkeypatch.setattr(session_selections, "MAX_SESSIONS_COUNTED", 3)
    async with sql_backend.open() as stores:
        for number in range(1, 9):
            await create(stores, number)
        async with stores._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("ANALYZE"))
        of_client = await stores.selections.reach(SessionSelection(client_id="web"), live_at=LIVE)
        assert (of_client.sessions, of_client.accuracy) == (4, Accuracy.AT_LEAST)
        of_all = await stores.selections.reach(EVERY_SESSION, live_at=LIVE)
        assert (of_all.sessions, of_all.accuracy) == (8, Accuracy.ESTIMATE)
        exact = await stores.selections.reach(SessionSelection(subject="bob"), live_at=LIVE)
        assert (exact.sessions, exact.accuracy) == (0, Accuracy.EXACT)


async def test_small_sample_is_examined_of_a_large_table_only(sql_backend, monkeypatch):
    monkeypatch.setattr(session_selections, "MAX_SESSIONS_COUNTED", 6)
    async with sql_backend.open() as stores:

        async def count(selection=EVERY_SESSION):
            async with stores._database.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(sa.text("ANALYZE"))
            reach = await stores.selections.reach(selection, live_at=LIVE, sample=1)
            return reach.sessions, reach.accuracy

        for number in range(1, 7):
            await create(stores, number)
        assert await count() == (6, Accuracy.EXACT)
        for number in (7, 8):
            await create(stores, number)
        await create(stores, 9, idle_expire_time=LIVE)  # the walk begins with the highest id
        # One of the first two is live, so about one half of the nine are.
        assert await count() == (round(9 / 2), Accuracy.ESTIMATE)
        assert await count(SessionSelection(client_id="web")) == (6, Accuracy.AT_LEAST)


async def test_postgresql_counts_a_large_owner_in_the_order_of_its_index(postgres_database, monkeypatch):
    monkeypatch.setattr(session_selections, "MAX_SESSIONS_COUNTED", 9_000)  # nearly all of the owner's 10,000
    plans = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def explain(_connection, cursor, statement, parameters, _context, _many):
        if "examined" in statement and not statement.startswith("EXPLAIN"):
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    async with SqlStores(postgres_database) as stores:
        async with stores._database.engine.begin() as connection:
            await connection.execute(sa.text(FILL))
            # The pages of a small table are cheap to read at random, so a walk of it is never the dearer plan.
            await connection.execute(sa.text(COSTLY_PAGES))
        async with stores._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("ANALYZE sessions"))
    try:
        async with SqlStores(postgres_database) as stores:
            reach = await stores.selections.reach(SessionSelection(client_id="many"), live_at=LIVE)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)
    assert (reach.sessions, reach.accuracy) == (9_001, Accuracy.AT_LEAST)
    (plan,) = plans
    walk = plan.partition("CTE examined")[2].partition("CTE Scan")[0]
    assert "Index Scan Backward using sessions_by_client" in walk, plan
    assert "Sort" not in walk, plan


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        ({"subject": "s-7"}, "sessions_by_subject"),
        ({"client_id": "many"}, "sessions_by_client"),
        ({"device_id": "d-7"}, "sessions_by_device"),
        ({"created_after": NOW}, "sessions_pkey"),
        (
            {"client_id": "many", "created_after": NOW - 2e9, "last_used_before": NOW + 5},
            "sessions_by_client",
        ),
    ],
)
async def test_postgresql_walks_an_index(postgres_database, selection, index):
    async with SqlStores(postgres_database) as stores:
        engine = stores._database.engine
        async with engine.begin() as connection:
            await connection.execute(sa.text(FILL))
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("ANALYZE sessions"))
            statement = session_selections._walk(
                SessionSelection(**selection),
                LIVE,
                (session_selections._S.id, session_selections._S.create_time),
                500,
                PLAIN,
            )
            text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
            plan = "\n".join((await connection.execute(sa.text("EXPLAIN " + text))).scalars())
    assert re.search(rf"Index Scan.* {index} ", plan), plan
    assert "Seq Scan on sessions" not in plan
    if "many" in selection.values():  # a part must not read and sort all of them
        assert "Sort" not in plan, plan


COSTLY_PAGES = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET random_page_cost = 1000', current_database()); END $$
"""
FILL = """
INSERT INTO sessions (id, create_time, rotate_time, last_use_time, idle_expire_time, absolute_expire_time, purge_time,
  generation, revision, key_version, retries, revoke_reason, with_id_token, subject, client_id, device_id, scopes,
  audience, custom_claims)
SELECT gen_random_uuid(), n, n, n, 9e17, 9e17, 9e17, 0, 0, 1, 0, 0, false, 's-' || n % 500, CASE WHEN n % 2 = 0 THEN 'many' ELSE 'c-' || n % 20 END,
  'd-' || n % 300, '[]', '[]', '{}'
FROM generate_series(1, 20000) n
"""


async def test_counts_and_lists_run_one_at_a_time_and_few_wait(sql_backend):
    async with sql_backend.open() as stores:
        await create(stores, 1)
        counts = [stores.selections.reach(EVERY_SESSION, live_at=LIVE) for _ in range(MAX_LONG_READS - 1)]
        lists = [stores.entries.page(EntryFilter(), live_at=LIVE, limit=1, below=None) for _ in range(3)]
        results: list[Any] = await asyncio.gather(*counts, *lists, return_exceptions=True)
        refused = [each for each in results if isinstance(each, OverloadedError)]
        assert [results.index(each) for each in refused] == [MAX_LONG_READS, MAX_LONG_READS + 1]
        assert [each.retry_after for each in refused] == [1.0, 1.0]
        assert {each.sessions for each in results[: MAX_LONG_READS - 1]} == {1}
        assert (await stores.selections.reach(EVERY_SESSION, live_at=LIVE)).sessions == 1

"""Personal access tokens in `SessionStore` over every backend."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_session, a_use, digest
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionFilter, SessionPosition
from token_service.stores.sql.schema import sessions
from token_service.tokens.revocation import RevocationTarget


def a_token(number: int = 1, **changes: Any):
    """A personal access token that lives for a day."""
    values = {
        "refresh_hash": None,
        "personal_hash": digest(f"personal {number}"),
        "name": f"nächtlich {number} 🙂",
        "create_time": NOW + number,
        "idle_expire_time": NOW + 86400,
        **changes,
    }
    return a_session(**values)


async def names(stores, **query: Any):
    request = {"live_at": None, "limit": 10, "after": None, "personal": True, **query}
    page = await stores.sessions.list(SessionFilter.SUBJECT, "alice", **request)
    return [details.session.name for details in page]


async def test_row_keeps_hash_and_name(stores):
    token = a_token()
    row, _ = await stores.sessions.create(token, digest("request"))
    assert row == token
    assert await stores.sessions.get(token.id) == token
    assert (await stores.sessions.describe(token.id)).session == token
    again, was_created = await stores.sessions.create(a_token(2), digest("request"))
    assert (again, was_created) == (token, False)


async def test_list_has_only_tokens_and_only_those_of_a_client(stores):
    for number, client_id in enumerate(["web", "ci", "web"], 1):
        await stores.sessions.create(a_token(number, client_id=client_id), None)
        await stores.sessions.create(a_session(create_time=NOW + number, client_id=client_id), None)
    await stores.sessions.create(a_token(4, subject="bob"), None)
    third, second, first = (f"nächtlich {number} 🙂" for number in (3, 2, 1))
    assert await names(stores) == [third, second, first]
    assert await names(stores, client_id="web") == [third, first]
    assert await names(stores, limit=2) == [third, second]
    (last,) = await stores.sessions.list(
        SessionFilter.SUBJECT, "alice", live_at=None, limit=1, after=None, personal=True
    )
    after = SessionPosition(last.session.create_time, last.session.id)
    assert await names(stores, after=after) == [second, first]
    everything = await stores.sessions.list(
        SessionFilter.SUBJECT, "alice", live_at=None, limit=10, after=None
    )
    assert len(everything) == 6


async def test_list_leaves_out_ended_tokens(stores):
    live, revoked = a_token(1), a_token(2)
    expired = a_token(3, absolute_expire_time=NOW + 60, idle_expire_time=NOW + 60)
    for token in (live, revoked, expired):
        await stores.sessions.create(token, None)
    await stores.log.append([a_draft(RevocationTarget.SESSION, revoked.id)])
    assert await names(stores, live_at=NOW + 60) == [live.name]
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
    assert await names(stores, live_at=NOW + 60) == []


async def test_use_never_moves_the_expiry(stores):
    token = a_token()
    await stores.sessions.create(token, None)
    used = await stores.sessions.use(a_use(token.id, now=NOW + 100, idle_expire_time=NOW + 10**6))
    assert (used.last_use_time, used.idle_expire_time) == (NOW + 100, NOW + 86400)
    assert (used.personal_hash, used.name) == (token.personal_hash, token.name)
    assert used.state(NOW + 86400) is SessionState.EXPIRED


async def test_purge_deletes_a_token_after_its_end_only(stores):
    token = a_token()
    await stores.sessions.create(token, None)
    assert await stores.sessions.purge(NOW + 86400, 10) == 0
    assert await stores.sessions.purge(NOW + 86401, 10) == 1
    assert await stores.sessions.get(token.id) is None


async def test_row_of_a_node_before_revision_0009_is_no_token(sql_backend):
    async with sql_backend.open() as stores:
        session = a_session()
        await stores.sessions.create(session, None)
        engine = stores._database.engine
        older = sa.select(*(column for column in sessions.c if column.name not in ("personal_hash", "name")))
        async with engine.begin() as connection:
            row = (await connection.execute(older)).one()._asdict()
            await connection.execute(sa.delete(sessions))
            await connection.execute(sa.insert(sessions), [row])
        found = await stores.sessions.get(session.id)
        assert found == session
        assert (found.personal_hash, found.name) == (None, "")


async def test_list_reads_the_index_of_tokens(sqlite_database):
    with sqlite3.connect(sqlite_database.removeprefix("sqlite:///")) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM sessions WHERE subject = 'alice' AND personal_hash IS NOT NULL "
            "ORDER BY create_time DESC, id DESC LIMIT 50"
        ).fetchall()
    connection.close()
    assert ["sessions_by_personal_token" in step[-1] for step in plan] == [True], plan

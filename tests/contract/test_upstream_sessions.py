"""The identity claims and the upstream of a session in `SessionStore` over every backend."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, digest
from token_service.stores.sql.schema import sessions
from token_service.tokens.revocation import RevocationTarget

CLAIMS = {"name": "Álice 🙂", "email_verified": True, "address": {"country": "NO"}}


def a_login(number: int = 0, **changes: Any):
    """A session that began at an upstream."""
    values = {
        "id": UUID(int=number),
        "identity_claims": CLAIMS,
        "upstream": "corporate",
        "upstream_session": "there-1",
        **changes,
    }
    return a_session(**values)


async def ids(stores, upstream="corporate", upstream_session="there-1", *, live_at=NOW + 30, limit=10):
    found = await stores.sessions.by_upstream(upstream, upstream_session, live_at=live_at, limit=limit)
    return [each.int for each in found]


async def test_row_keeps_claims_and_upstream(stores):
    session = a_login()
    row, _ = await stores.sessions.create(session, digest("code"))
    assert row == session
    assert await stores.sessions.create(a_login(2), digest("code")) == (session, False)
    assert await stores.sessions.get(session.id) == session
    assert (await stores.sessions.describe(session.id)).session == session
    rotated = await stores.sessions.rotate(a_rotation(session.id))
    assert (rotated.identity_claims, rotated.upstream, rotated.upstream_session) == (
        CLAIMS,
        "corporate",
        "there-1",
    )


async def test_by_upstream_finds_the_live_sessions_of_one_session_there(stores):
    for number in (3, 1, 2):
        await stores.sessions.create(a_login(number, subject=f"user-{number}"), None)
    await stores.sessions.create(a_login(4, upstream="other"), None)
    await stores.sessions.create(a_login(5, upstream_session="there-2"), None)
    await stores.sessions.create(a_login(6, upstream_session=""), None)
    await stores.sessions.create(a_session(id=UUID(int=7)), None)
    assert await ids(stores) == [1, 2, 3]
    assert await ids(stores, limit=2) == [1, 2]
    assert await ids(stores, "other") == [4]
    assert await ids(stores, upstream_session="there-3") == []
    assert await ids(stores, "corporate", "") == await ids(stores, "", "") == []
    await stores.log.append([a_draft(RevocationTarget.SESSION, UUID(int=1))])
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "user-2")])
    assert await ids(stores) == [3]
    assert await ids(stores, live_at=NOW + 3600) == []


async def test_row_of_a_node_before_revision_0010_has_no_upstream(sql_backend):
    async with sql_backend.open() as stores:
        session = a_session()
        await stores.sessions.create(session, None)
        engine = stores._database.engine
        newer = ("identity_claims", "upstream", "upstream_session")
        older = sa.select(*(column for column in sessions.c if column.name not in newer))
        async with engine.begin() as connection:
            row = (await connection.execute(older)).one()._asdict()
            await connection.execute(sa.delete(sessions))
            await connection.execute(sa.insert(sessions), [row])
        found = await stores.sessions.get(session.id)
        assert found == session
        assert (found.identity_claims, found.upstream, found.upstream_session) == ({}, "", "")


async def test_by_upstream_reads_its_index(sqlite_database):
    with sqlite3.connect(sqlite_database.removeprefix("sqlite:///")) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM sessions WHERE upstream = 'corporate' "
            "AND upstream_session = 'there-1' ORDER BY id LIMIT 50"
        ).fetchall()
    connection.close()
    assert "sessions_by_upstream_session" in plan[0][-1], plan

"""RevokeSessions and the previews on real databases: races with refreshes and logins, and no write in a preview."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from tests.contract.builders import NOW, a_rotation, a_session
from tests.unit.core.node import SYSTEM, Node, RecordingAudit
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.revocation.bulk import BulkRevocation, RevokeSessionsCommand
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.entries import EntryFilter
from token_service.core.sessions.selection import SessionSelection
from token_service.core.sessions.session import SessionState
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Cursor, RevocationTarget

WEB = SessionSelection(client_id="web")


def bulk_of(stores) -> BulkRevocation:
    async def append(drafts):
        head, entries = await stores.log.append(drafts)
        return Cursor(head.epoch, head.sequence), len(entries)

    rates: Any = None  # the caller has no rates
    return BulkRevocation(stores.selections, append, rates, RecordingAudit())


async def revoke_all(stores, *, part: int = 7) -> int:
    bulk, revoked, token = bulk_of(stores), 0, ""
    while True:
        command = RevokeSessionsCommand(selection=WEB, max_sessions=part, page_token=token)
        result = await bulk.revoke(Caller.system(), command, NOW + 20)
        revoked += result.sessions
        token = result.next_page_token
        if not token:
            return revoked


async def test_refreshes_and_logins_meanwhile_save_no_session(pair):
    """Two nodes: one revokes, the other rotates the same sessions and opens new ones all the time."""
    one, other = pair
    ids = [uuid4() for _ in range(40)]
    for number, session_id in enumerate(ids):
        await one.sessions.create(a_session(id=session_id, create_time=NOW + number % 5), None)
    over = asyncio.Event()
    begun = asyncio.Event()

    async def refresh(session_id: UUID) -> None:
        generation = 0
        while await other.sessions.rotate(a_rotation(session_id, generation)) is not None:
            generation += 1
            begun.set()
            await asyncio.sleep(0)

    async def log_in() -> None:
        number = 0
        while not over.is_set() and number < 200:
            number += 1
            await other.sessions.create(a_session(create_time=NOW + 10 + number), None)

    tasks = [asyncio.create_task(refresh(session_id)) for session_id in ids]
    tasks.append(asyncio.create_task(log_in()))
    async with asyncio.timeout(200):
        await begun.wait()
        revoked = await revoke_all(one)
        over.set()
        # Each refresh ends, because no refresh of a revoked session succeeds.
        await asyncio.gather(*tasks)
    assert revoked >= len(ids)
    for session_id in ids:
        assert (await one.sessions.get(session_id)).state(NOW + 20) is SessionState.REVOKED
    entries = {each.value for each in await one.log.read(0, 1000)}
    assert {str(session_id) for session_id in ids} <= entries


async def test_concurrent_calls_make_one_entry_for_each_session(pair):
    for _ in range(20):
        await pair[0].sessions.create(a_session(), None)
    counts = await asyncio.gather(*(revoke_all(stores) for stores in (*pair, *pair)))
    assert sum(counts) == 20
    entries = [each.value for each in await pair[0].log.read(0, 1000)]
    assert len(entries) == len(set(entries)) == 20


async def test_part_is_one_transaction_with_its_audit_rows(sql_backend):
    async with sql_backend.open() as stores:
        for _ in range(3):
            await stores.sessions.create(a_session(), None)

        async def fail(*_: Any) -> None:
            raise RuntimeError("no row")

        append_events, stores.log._append._append_events = stores.log._append._append_events, fail
        with pytest.raises(StoreUnavailableError):
            await revoke_all(stores)
        assert (await stores.log.head()).sequence == 0
        assert (await stores.selections.reach(WEB, live_at=NOW)).sessions == 3
        stores.log._append._append_events = append_events
        assert await revoke_all(stores) == 3


@asynccontextmanager
async def statements_of(stores):
    """Note every statement that goes to the database, and refuse every write before it is sent."""
    database = stores._database
    noted: list[str] = []

    def note(_connection, _cursor, statement, *_):
        noted.append(statement)

    async def refuse(*_: Any) -> None:
        raise AssertionError("a write was requested")

    read_one, write, write_one = database.read_one, database.write, database.write_one

    async def read(call):
        noted.append(call.statement.sql)
        return await read_one(call)

    database.read_one, database.write, database.write_one = read, refuse, refuse
    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        sa.event.remove(database.engine.sync_engine, "before_cursor_execute", note)
        database.read_one, database.write, database.write_one = read_one, write, write_one


async def test_previews_counts_and_dry_runs_only_read(sql_backend):
    async with sql_backend.open() as stores:
        node = await Node(SystemClock(), stores=stores, max_staleness=1e12).start()
        tokens = await node.issue()
        active = node.keyring.signer().key_id
        await node.key_manager.prepare(SYSTEM, None)
        await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        async with stores._database.engine.begin() as connection:  # a report of a node that has ended
            await connection.execute(sa.text(STALE))
        core, caller, now = node.core, Caller.system(), node.clock.now()
        commands = [
            RevokeCommand(token=tokens.refresh_token),
            RevokeCommand(token=tokens.access_token),
            RevokeCommand(target=RevocationTarget.SESSION, value=tokens.session_id),
            RevokeCommand(target=RevocationTarget.SUBJECT, value="alice"),
            RevokeCommand(target=RevocationTarget.CLIENT, value="web"),
            RevokeCommand(target=RevocationTarget.KEY, value=active),
            RevokeCommand(target=RevocationTarget.EVERYTHING),
        ]
        async with statements_of(stores) as noted:
            for command in commands:
                await core.revocation_previews.preview(caller, command, now)
            assert (await node.key_manager.preview_retirement(active)).problem
            await core.live_revocations.list(caller, EntryFilter(), 0, "", now)
            assert (await core.bulk_revocation.count(caller, WEB, now)).sessions == 1
            dry = RevokeSessionsCommand(selection=WEB, dry_run=True)
            assert (await core.bulk_revocation.revoke(caller, dry, now)).sessions == 1
        reading = [text for text in noted if text.lstrip().startswith(("SELECT", "WITH"))]
        assert set(noted) - set(reading) <= {"BEGIN"}
        assert len(reading) > 15
        assert not [text for text in reading if "INSERT" in text or "UPDATE" in text or "DELETE" in text]


STALE = """
INSERT INTO nodes (node_id, report_time, connected, applied, foreign_confirmations) VALUES ('ended', 0, 1, '[]', '[]')
"""

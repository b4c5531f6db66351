"""Encrypted personal data on both databases: at rest, during a conversion, and with missing or wrong keys."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, a_use, digest
from tests.contract.conftest import WRAP, load_wrap
from tests.contract.killed_conversion import convert
from tests.contract.personal_scenario import (
    ALICE,
    BOB,
    CAROL,
    CLAIMS,
    CREATED,
    LAST,
    SESSION,
    SESSION_ID,
    USER_CODE,
    dump,
    fill,
    leaks,
)
from tests.releases.sql import load_postgres, load_sqlite
from tests.support.memory_audit import AUDIT_KEYS
from token_service.core.events.event import Action, Actor
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import verify
from token_service.core.personal_data.cipher import MARK, DamagedPersonalDataError
from token_service.core.personal_data.keys import EncryptionState
from token_service.core.revocation.entries import EntryFilter
from token_service.core.sessions.selection import EVERY_SESSION
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionFilter
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.stores.sql import SqlStores, migrations
from token_service.stores.sql.schema import audit_events, revocation_floors, sessions
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret
from token_service.urls import DatabaseUrl

RELEASE = Path(__file__).resolve().parents[1] / "releases/0.1.0"
OPERATOR = Actor("operator", "root@db-1")
OTHER = AesGcmKeyWrap([Secret(b"x" * 32)])


async def ignore(_done):
    """A progress that shows nothing."""


async def encrypt(stores):
    await stores.personal_data_changes.begin(OPERATOR, EncryptionState.ENCRYPTING, NOW)
    return await finish(stores, EncryptionState.ENCRYPTING)


async def decrypt(stores):
    await stores.personal_data_changes.begin(OPERATOR, EncryptionState.DECRYPTING, NOW)
    return await finish(stores, EncryptionState.DECRYPTING)


async def finish(stores, state):
    count = await stores.personal_data_sweeps.run(ignore)
    await stores.personal_data_changes.finish(OPERATOR, state)
    await stores.personal_data_sweeps.drop_floors()
    return count


def state_of(stores):
    """The state as a process last read it."""
    return stores.personal_data.keys.state


@asynccontextmanager
async def encrypted(backend, **options):
    async with backend.open(**options) as stores:
        assert await stores.personal_data_changes.enable_if_empty(OPERATOR, NOW)
        yield stores


async def everything(stores):
    """What the ports return of the scenario."""
    where = AuditFilter(subject=ALICE)
    found = [
        await stores.sessions.describe(SESSION_ID),
        await stores.sessions.by_upstream("corporate", "upstream-personal", live_at=NOW, limit=9),
        await stores.logouts.sessions([SESSION_ID]),
        await stores.logouts.due(NOW + 9, 9, []),
        await stores.device_requests.find(USER_CODE),
        await stores.log.read(0, 9),
        await stores.entries.page(EntryFilter(), live_at=NOW, limit=9, below=None),
        await stores.entries.page(EntryFilter(value=BOB), live_at=NOW, limit=9, below=None),
        await stores.entries.has_floor(RevocationTarget.SUBJECT, BOB),
        [
            replace_salt(row)
            for row in await stores.audit.list(AuditFilter(), limit=50, after=None)
            if not row.action.startswith("personal_data")
        ],
        [row.position for row in await stores.audit.list(where, limit=9, after=None)],
    ]
    for by, value in (
        (SessionFilter.SUBJECT, ALICE),
        (SessionFilter.SUBJECT, BOB),
        (SessionFilter.SUBJECT, CAROL),
        (SessionFilter.DEVICE, "device-personal"),
    ):
        found.append(await stores.sessions.list(by, value, live_at=None, limit=9, after=None))
        is_subject = by is SessionFilter.SUBJECT
        selection = replace(
            EVERY_SESSION, subject=value if is_subject else "", device_id="" if is_subject else value
        )
        found.append(await stores.selections.part(selection, live_at=NOW, limit=9, after=None))
        found.append(await stores.selections.reach(selection, live_at=NOW))
    return found


def replace_salt(row):
    """A row as the trail shows it. Positions and MACs depend on the events of the conversion."""
    return (row.action, row.subject, row.on_behalf_of, row.comment, row.ip_address, row.user_agent, row.salt)


async def test_new_database_holds_no_personal_data_in_any_column(sql_backend):
    async with encrypted(sql_backend) as stores:
        await fill(stores)
        assert leaks(await dump(stores)) == set()
        assert (await verify(stores.audit)).findings == []
    # The dump finds what an unencrypted database holds.
    columns = {
        *(
            ("sessions", name)
            for name in ("subject", "device_id", "name", "custom_claims", "identity_claims")
        ),
        *(
            ("sessions", f"{name}_{end}")
            for name in ("create", "last")
            for end in ("ip_address", "user_agent")
        ),
        *(
            ("sessions", "upstream_session"),
            ("sessions", "origins"),
            ("logout_deliveries", "subject"),
            ("device_requests", "decision"),
        ),
        *(("revocations", "value"), ("revocations", "comment"), ("revocation_floors", "target")),
        *(
            ("audit_events", name)
            for name in ("on_behalf_of", "subject", "comment", "ip_address", "user_agent")
        ),
    }
    async with sql_backend.open() as stores:
        await decrypt(stores)
        assert {(table, column) for table, column, _ in leaks(await dump(stores))} == columns


async def test_conversion_changes_nothing_that_the_ports_return(sql_backend):
    async with sql_backend.open() as stores:
        await fill(stores)
        before = await everything(stores)
        raw = [
            each for each in await dump(stores) if each[0] in {"sessions", "revocations", "revocation_floors"}
        ]
        assert before[0].session.custom_claims == {**CLAIMS, "second": "claim-personal-2"}
        assert (before[0].created_from, before[0].last_used_from) == (CREATED, LAST)
        assert await encrypt(stores) == 9
        assert leaks(await dump(stores)) == set()
        assert await everything(stores) == before
        assert (await verify(stores.audit)).findings == []
        assert await encrypt(stores) == 0
        assert await decrypt(stores) == 9 + 4  # and the events of two keys and two changes of the state
        assert await everything(stores) == before
        after = [
            each for each in await dump(stores) if each[0] in {"sessions", "revocations", "revocation_floors"}
        ]
        assert sorted(map(repr, after)) == sorted(map(repr, raw))
        assert (await verify(stores.audit)).findings == []


async def test_erasure_leaves_the_encrypted_chain_verifiable(sql_backend):
    async with sql_backend.open() as stores:
        await fill(stores)
        await encrypt(stores)
        assert await stores.audit.erase(OPERATOR, ALICE) == 1
        assert await stores.audit.erase(OPERATOR, BOB) == 1
        result = await verify(stores.audit)
        assert (result.findings, result.erased) == ([], 2)
        assert await stores.audit.list(AuditFilter(subject=ALICE), limit=9, after=None) == []
        rows = await stores.audit.list(AuditFilter(actions=["token.issued"]), limit=9, after=None)
        assert [(row.is_erased, row.subject, row.comment) for row in rows] == [(True, "", "")]


async def test_values_swapped_between_rows_are_refused(sql_backend):
    async with encrypted(sql_backend) as stores:
        await fill(stores)
        async with stores._database.engine.begin() as connection:
            rows = (await connection.execute(sa.select(sessions.c.id, sessions.c.personal))).all()
            for (row, _), (_, value) in zip(rows, rows[1:] + rows[:1], strict=True):
                await connection.execute(
                    sa.update(sessions).where(sessions.c.id == row).values(personal=value)
                )
            salts = (await connection.execute(sa.select(audit_events.c.position, audit_events.c.salt))).all()
            for (position, _), (_, value) in zip(salts, salts[1:] + salts[:1], strict=True):
                await connection.execute(
                    sa.update(audit_events).where(audit_events.c.position == position).values(salt=value)
                )
        for row, _ in rows:
            with pytest.raises(DamagedPersonalDataError, match=r"sessions\.personal"):
                await stores.sessions.get(row)
        findings = (await verify(stores.audit)).findings
        assert len(findings) == len(salts)
        assert all("its personal fields were changed" in str(finding) for finding in findings)


async def test_nodes_follow_a_change_of_the_state_with_their_next_statement(sql_backend):
    async with sql_backend.open() as one, sql_backend.open() as other:
        early = a_session(subject=ALICE, device_id="device-personal")
        await other.sessions.create(early, None)
        assert state_of(other) is EncryptionState.OFF
        await one.personal_data_changes.begin(OPERATOR, EncryptionState.ENCRYPTING, NOW)
        # The other node still has the plain state.
        late = a_session(subject=ALICE, custom_claims={"a": "claim-personal"})
        row, created = await other.sessions.create(late, None)
        assert (row, created) == (late, True)
        assert state_of(other) is EncryptionState.ENCRYPTING
        async with sql_backend.open() as third:
            await finish(one, EncryptionState.ENCRYPTING)
            rotated = await third.sessions.rotate(
                a_rotation(early.id, device_id="device-personal", origin=LAST)
            )
            assert rotated is not None
        rotated = await other.sessions.rotate(a_rotation(late.id, origin=LAST))
        assert (rotated.generation, rotated.custom_claims) == (1, {"a": "claim-personal"})
        assert state_of(other) is EncryptionState.ON
        listed = await one.sessions.list(SessionFilter.SUBJECT, ALICE, live_at=None, limit=9, after=None)
        assert {each.session.id for each in listed} == {early.id, late.id}
        assert leaks(await dump(one)) == set()


@pytest.mark.parametrize("state", [EncryptionState.ENCRYPTING, EncryptionState.DECRYPTING])
async def test_revocation_during_a_conversion_ends_sessions_of_both_forms(sql_backend, state):
    async with sql_backend.open() as stores:
        if state is EncryptionState.DECRYPTING:
            await encrypt(stores)
        older = a_session(subject=ALICE)
        await stores.sessions.create(older, None)
        await stores.personal_data_changes.begin(OPERATOR, state, NOW)
        newer = a_session(subject=ALICE)
        await stores.sessions.create(newer, None)
        await stores.log.append([a_draft(RevocationTarget.SUBJECT, ALICE)])
        for session in (older, newer):
            assert (await stores.sessions.get(session.id)).state(NOW) is SessionState.REVOKED
        await finish(stores, state)
        for session in (older, newer):
            assert (await stores.sessions.get(session.id)).state(NOW) is SessionState.REVOKED
            assert await stores.sessions.use(a_use(session.id)) is None
        async with stores._database.engine.connect() as connection:
            (target,) = (await connection.execute(sa.select(revocation_floors.c.target))).scalars()
        assert target.startswith(MARK) == (state is EncryptionState.ENCRYPTING)


async def test_floors_of_subjects_are_not_purged_during_a_conversion(sql_backend):
    async with sql_backend.open() as stores:
        session = a_session(subject=ALICE)
        await stores.sessions.create(session, None)
        await stores.personal_data_changes.begin(OPERATOR, EncryptionState.ENCRYPTING, NOW)
        await stores.log.append([a_draft(RevocationTarget.SUBJECT, ALICE)])
        # The floor of the new form revokes no session yet, but will.
        assert await stores.log.purge_floors(NOW + 9e6, 100) == (0, None)
        await finish(stores, EncryptionState.ENCRYPTING)
        assert (await stores.sessions.get(session.id)).state(NOW) is SessionState.REVOKED
        assert await stores.log.purge_floors(NOW + 9e6, 100) == (0, None)


async def test_conversion_beside_traffic_leaves_nothing_plain_and_revives_nothing(sql_backend):
    async with sql_backend.open() as command, sql_backend.open() as node:
        names = [f"alice-personal-{number}" for number in range(40)]
        ids = {name: UUID(int=number + 100) for number, name in enumerate(names)}
        for name in names[:20]:
            await node.sessions.create(a_session(id=ids[name], subject=name), None)
        ended = asyncio.Event()

        async def live():
            generation = 0
            for name in names[20:]:
                await node.sessions.create(a_session(id=ids[name], subject=name), None)
                await node.log.append([a_draft(RevocationTarget.SUBJECT, names[generation])])
                generation += 1
            while not ended.is_set() or generation < 30:
                done = await node.sessions.rotate(a_rotation(ids[names[39]], generation - 20, origin=LAST))
                assert done is not None
                assert done.subject == names[39]
                generation += 1

        traffic = asyncio.create_task(live())
        await encrypt(command)
        ended.set()
        await traffic
        assert leaks(await dump(command)) == set()
        states = {name: (await node.sessions.get(ids[name])).state(NOW) for name in names}
        assert [name for name, state in states.items() if state is SessionState.REVOKED] == names[:20]


async def test_killed_conversion_goes_on(sql_backend):
    async with sql_backend.open() as stores:
        await fill(stores)
        for number in range(30):
            await stores.sessions.create(a_session(subject=f"alice-personal-{number}"), None)
        before = await everything(stores)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.contract.killed_conversion"])
        killed = 0
        for step in (3, 6, 9, 14, 20, 28, 40, 400):
            process = context.Process(target=convert, args=(sql_backend.url, step))
            process.start()
            await asyncio.to_thread(process.join, 60)
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            killed += 1
            assert await everything(stores) == before
        assert killed >= 5
        assert (await stores.personal_data.refresh()).state is EncryptionState.ON
        assert leaks(await dump(stores)) == set()
        assert await everything(stores) == before
        assert (await verify(stores.audit)).findings == []


async def test_node_without_the_key_encryption_key_fails_with_its_name(sql_backend, caplog):
    async def wrong():
        return OTHER

    async with encrypted(sql_backend) as stores:
        await fill(stores)
    async with sql_backend.open(load_wrap=wrong) as stores:
        with pytest.raises(ConfigurationError, match=WRAP.key_id):
            await stores.personal_data.load()
        assert WRAP.key_id in stores.personal_data.trouble
        for call in (
            stores.sessions.get(SESSION_ID),
            stores.sessions.create(a_session(), None),
            stores.log.append([a_draft(RevocationTarget.SUBJECT, ALICE)]),
            stores.audit.list(AuditFilter(), limit=1, after=None),
        ):
            with pytest.raises(StoreUnavailableError, match="TOKEN_SERVICE_KEY_ENCRYPTION_KEY"):
                await call
        assert len([each for each in caplog.messages if "personal data can't be read" in each]) == 1
    async with sql_backend.open() as stores:
        assert (await stores.sessions.get(SESSION_ID)).subject == ALICE
        assert stores.personal_data.trouble is None


async def test_nodes_learn_a_new_data_key_from_the_rows(sql_backend):
    async with encrypted(sql_backend) as one, sql_backend.open() as other:
        older = SESSION
        await one.sessions.create(older, None)
        assert await other.sessions.get(older.id) == older
        assert await one.personal_data_changes.rotate_key(OPERATOR, NOW) == 3
        newer = a_session(subject=BOB)
        await one.sessions.create(newer, None)
        assert await other.sessions.get(newer.id) == newer
        assert await one.sessions.get(older.id) == older
        rotated = await other.sessions.rotate(a_rotation(older.id, device_id="device-personal", origin=LAST))
        assert rotated.subject == ALICE
        rows = await one.audit.list(
            AuditFilter(actions=[Action.PERSONAL_DATA_KEY_CREATED]), limit=9, after=None
        )
        assert [row.target_id for row in rows] == ["3", "2", "1"]


async def test_rewrapped_keys_need_only_the_new_key_encryption_key(sql_backend):
    secret = Secret(b"n" * 32)

    async def both():
        return AesGcmKeyWrap([secret, Secret(b"k" * 32)])

    async def new():
        return AesGcmKeyWrap([secret])

    async with encrypted(sql_backend) as stores:
        await stores.sessions.create(SESSION, None)
    async with sql_backend.open(load_wrap=both) as stores:
        assert await stores.personal_data_changes.rewrap(OPERATOR) == 2
        assert await stores.personal_data_changes.rewrap(OPERATOR) == 0
    async with sql_backend.open(load_wrap=new) as stores:
        assert await stores.sessions.get(SESSION_ID) == SESSION


@pytest.mark.parametrize("what", ["session", "revocation", "event"])
async def test_database_with_personal_data_is_not_new(sql_backend, what):
    async with sql_backend.open() as stores:
        if what == "session":
            await stores.sessions.create(a_session(), None)
        elif what == "revocation":
            await stores.log.append([a_draft(RevocationTarget.SUBJECT, ALICE)])
        else:
            from tests.contract.test_audit_store import an_event

            await stores.audit.append([an_event()])
        assert not await stores.personal_data_changes.enable_if_empty(OPERATOR, NOW)
        assert state_of(stores) is EncryptionState.OFF


async def test_nodes_that_start_at_once_make_one_set_of_keys(sql_backend):
    async with sql_backend.open() as one, sql_backend.open() as other:
        enabled = await asyncio.gather(
            *(each.personal_data_changes.enable_if_empty(OPERATOR, NOW) for each in (one, other))
        )
        assert enabled == [True, True]
        await one.sessions.create(SESSION, digest("request"))
        assert await other.sessions.get(SESSION_ID) == SESSION
        stored = await one.personal_data_changes.stored()
        assert [key.version for key in stored.keys] == [1, 2]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_database_of_the_last_release_is_encrypted_after_its_upgrade(dialect, request, tmp_path):
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path / 'older.db'}"
        load_sqlite(tmp_path / "older.db", RELEASE / "sqlite.sql")
    else:
        url = request.getfixturevalue("postgres_url")
        await asyncio.to_thread(load_postgres, url, RELEASE / "postgresql.sql")
    async with SqlStores(url, audit_keys=AUDIT_KEYS, node_id="node", load_wrap=load_wrap) as stores:
        await stores.migrate()
        async with stores._database.engine.connect() as connection:
            ids = list((await connection.execute(sa.select(sessions.c.id))).scalars())
        before = [each for each in [await stores.sessions.describe(each) for each in ids] if each is not None]
        assert len(before) == len(ids)
        entries = await stores.log.read(0, 100)
        subjects = {each.session.subject for each in before}
        assert len(subjects) > 1
        assert RevocationTarget.SUBJECT in {entry.target for entry in entries}
        assert SessionState.REVOKED in {each.session.state(0) for each in before}
        assert await encrypt(stores) >= len(ids)
        raw = [str(value) for _, _, value in await dump(stores)]
        assert [subject for subject in subjects if any(subject == value for value in raw)] == []
        assert [await stores.sessions.describe(each) for each in ids] == before
        assert await stores.log.read(0, 100) == entries
        with pytest.raises(ConfigurationError, match="personal-data decrypt"):
            await migrations.undo(DatabaseUrl.parse(url), "0004")
        await decrypt(stores)
        assert [await stores.sessions.describe(each) for each in ids] == before
    await migrations.undo(DatabaseUrl.parse(url), "0004")

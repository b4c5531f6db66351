"""The SQL stores with a database that refuses, blocks, restarts or is unreachable."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, a_signing_key, a_use, digest
from tests.support.deadline import eventually
from tests.support.postgres import database_name, driver_url
from token_service.core.events.event import Origin
from token_service.core.sessions.store import SessionFilter
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import ConfigurationError, StoreUnavailableError, TokenServiceError
from token_service.stores.sql import SqlStores, migrations
from token_service.stores.sql.engine import database, postgresql, servers, sqlite
from token_service.stores.sql.engine.errors import StatementRefusedError
from token_service.stores.sql.engine.servers import Servers
from token_service.stores.sql.engine.sqlite import SqliteLane
from token_service.tokens.revocation import RevocationTarget
from token_service.urls import DatabaseUrl

_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
GOODBYE = b"E" + (len(_FIELDS) + 4).to_bytes(4) + _FIELDS
"""The message that a server sends before it closes a connection."""
UNSTORABLE = "\ud800"  # a lone surrogate has no UTF-8 encoding


@asynccontextmanager
async def connection_to(url):
    connection = await asyncpg.connect(driver_url(url))
    try:
        yield connection
    finally:
        await connection.close()


async def created(stores, **changes):
    session, _ = await stores.sessions.create(a_session(**changes), None)
    return session


def generations(rows):
    return [row.generation for row in rows]


def every_operation(stores, session):
    return {
        "create": lambda: stores.sessions.create(a_session(), None),
        "rotate": lambda: stores.sessions.rotate(a_rotation(session.id)),
        "use": lambda: stores.sessions.use(a_use(session.id)),
        "get": lambda: stores.sessions.get(session.id),
        "describe": lambda: stores.sessions.describe(session.id),
        "list": lambda: stores.sessions.list(
            SessionFilter.SUBJECT, "alice", live_at=NOW, limit=10, after=None
        ),
        "purge": lambda: stores.sessions.purge(NOW - 1000, 10),
        "append": lambda: stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")]),
        "head": stores.log.head,
        "read": lambda: stores.log.read(0, 10),
        "compact": lambda: stores.log.compact(NOW, 10),
        "purge_floors": lambda: stores.log.purge_floors(NOW, 10),
        "load": stores.keys.load,
        "save": lambda: stores.keys.save(0, [a_signing_key()], []),
        "acquire": lambda: stores.leases.acquire("lease", "node", 1),
        "release": lambda: stores.leases.release("lease", "node"),
        "report": lambda: stores.nodes.report(NodeReport("node", 1, [], [])),
        "reports": lambda: stores.nodes.reports(60),
        "forget": lambda: stores.nodes.forget("node"),
        "event head": stores.events.head,
        "event sequence": lambda: stores.events.sequence(10),
        "event waiting": stores.events.waiting,
        "event read": lambda: stores.events.read(0, 10),
        "event before": lambda: stores.events.before(NOW),
        "event purge": lambda: stores.events.purge(NOW - 1000, 10),
        "event start": lambda: stores.events.start("mail", 0),
        "event position": lambda: stores.events.position("mail"),
        "event positions": stores.events.positions,
        "event advance": lambda: stores.events.advance("mail", 0, 0),
        "event forget": lambda: stores.events.forget("letter"),
    }


async def all_fail(operations):
    answers = await asyncio.gather(*(call() for call in operations.values()), return_exceptions=True)
    for name, answer in zip(operations, answers, strict=True):
        assert isinstance(answer, StoreUnavailableError), (name, answer)
        assert answer.retry_after


class TestRefused:
    """A value that can't be stored fails only its own call."""

    async def test_create_fails_only_for_the_bad_value(self, sql_backend):
        async with sql_backend.open() as stores:
            sessions = [a_session(subject=UNSTORABLE if n % 7 == 3 else f"user {n}") for n in range(40)]
            answers = await asyncio.gather(
                *(stores.sessions.create(session, None) for session in sessions), return_exceptions=True
            )
            for n, (session, answer) in enumerate(zip(sessions, answers, strict=True)):
                if n % 7 == 3:
                    assert isinstance(answer, StatementRefusedError)
                else:
                    assert answer == (session, True)

    async def test_create_fails_only_for_a_duplicate_id(self, sql_backend):
        async with sql_backend.open() as stores:
            session = await created(stores)
            other = a_session()
            outcomes: tuple[Any, Any] = await asyncio.gather(
                stores.sessions.create(session, None),
                stores.sessions.create(other, None),
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], StatementRefusedError)
            assert outcomes[1] == (other, True)

    async def test_rotate_fails_only_for_the_bad_value(self, sql_backend):
        async with sql_backend.open() as stores:
            sessions = [await created(stores) for _ in range(10)]
            bad = a_rotation(sessions[0].id, client_id=UNSTORABLE)
            refused, *fine = await asyncio.gather(
                stores.sessions.rotate(bad),
                *(stores.sessions.rotate(a_rotation(session.id)) for session in sessions),
                return_exceptions=True,
            )
            assert isinstance(refused, StatementRefusedError)
            assert generations(fine) == [1] * 10

    async def test_append_fails_only_for_the_bad_value(self, sql_backend):
        async with sql_backend.open() as stores:
            answers = await asyncio.gather(
                *(
                    stores.log.append(
                        [a_draft(RevocationTarget.TOKEN_ID, n, comment=UNSTORABLE if n == 4 else "")]
                    )
                    for n in range(10)
                ),
                return_exceptions=True,
            )
            assert isinstance(answers[4], StatementRefusedError)
            assert [answer for answer in answers if isinstance(answer, Exception)] == [answers[4]]
            assert [entry.sequence for entry in await stores.log.read(0, 100)] == list(range(1, 10))

    async def test_the_error_hides_the_values(self, sql_backend):
        async with sql_backend.open() as stores:
            with pytest.raises(StatementRefusedError) as caught:
                await stores.sessions.create(a_session(subject="secret" + UNSTORABLE), None)
            assert "secret" not in str(caught.value)


class TestClosing:
    async def test_finishes_queued_calls(self, sql_backend):
        async with sql_backend.open() as stores:
            sessions = [await created(stores) for _ in range(100)]
            tasks = [asyncio.create_task(stores.sessions.rotate(a_rotation(s.id))) for s in sessions]
            tasks.append(asyncio.create_task(stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")])))
            await asyncio.sleep(0)
        assert all(await asyncio.gather(*tasks))

    async def test_refuses_calls_afterwards(self, sql_backend):
        async with sql_backend.open() as stores:
            session = await created(stores)
        for call in (
            stores.sessions.get(session.id),
            stores.sessions.rotate(a_rotation(session.id)),
            stores.log.head(),
            stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")]),
        ):
            with pytest.raises(StoreUnavailableError):
                await call

    async def test_closes_every_connection(self, postgres_database):
        async with SqlStores(postgres_database) as stores:
            session = await created(stores)
            for call in every_operation(stores, session).values():
                await call()
        async with connection_to(postgres_database) as admin:

            async def gone():
                others = await admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                return others == 0

            await eventually(gone)


class TestPostgresConnections:
    async def test_one_killed_while_idle_is_replaced_without_an_error(self, postgres_database):
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as admin:
            session = await created(stores)
            await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")])
            assert await self.kill_all(admin)
            # The event loop reads the server's message; no call is in progress, so no call fails.
            await eventually(lambda: all_closed(stores))
            for call in every_operation(stores, session).values():
                await call()

    async def test_one_that_was_told_to_end_but_is_open_is_replaced_without_an_error(
        self, postgres_database, monkeypatch
    ):
        made = []
        connect = Servers.connect

        async def remember(*args, **options):
            made.append(await connect(*args, **options))
            return made[-1]

        monkeypatch.setattr(Servers, "connect", remember)
        async with SqlStores(postgres_database) as stores:
            session = await created(stores)
            for call in every_operation(stores, session).values():
                await call()
                still_open = [connection for connection in made if not connection.is_closed()]
                assert still_open
                for connection in still_open:
                    connection._protocol.data_received(GOODBYE)
                assert not any(connection.is_closed() for connection in still_open)

    async def test_one_killed_during_calls_fails_them_and_is_replaced(self, postgres_database):
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as admin:
            sessions = [await created(stores) for _ in range(10)]
            async with admin.transaction():
                await admin.execute("SELECT 1 FROM sessions FOR UPDATE")
                rotating = [
                    asyncio.create_task(stores.sessions.rotate(a_rotation(session.id)))
                    for session in sessions
                ]
                await eventually(lambda: waiting(postgres_database))
                assert await self.kill_all(admin)
                answers = await asyncio.gather(*rotating, return_exceptions=True)
                assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
            rows = await asyncio.gather(*(stores.sessions.rotate(a_rotation(s.id)) for s in sessions))
            assert generations(rows) == [1] * 10

    async def test_a_killed_append_fails_and_leaves_no_gap(self, postgres_database):
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as admin:
            async with admin.transaction():
                await admin.execute("SELECT 1 FROM log_head FOR UPDATE")
                appending = [
                    asyncio.create_task(stores.log.append([a_draft(RevocationTarget.TOKEN_ID, n)]))
                    for n in range(10)
                ]
                await eventually(lambda: waiting(postgres_database))
                assert await self.kill_all(admin)
                answers = await asyncio.gather(*appending, return_exceptions=True)
                assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
            head, _ = await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")])
            assert head.sequence == 1

    async def test_one_that_the_pool_fails_to_terminate_is_one_log_line(
        self, postgres_database, monkeypatch, caplog
    ):
        """This happens after a process was stopped so long that the server closed the connection."""

        def fail(dialect, connection):
            connection.driver_connection.terminate()
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")

        async with SqlStores(postgres_database) as stores:
            await stores.leases.acquire("lease", "node", 60)
            monkeypatch.setattr(type(stores._database.dialect), "do_terminate", fail)
            async with connection_to(postgres_database) as admin:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                )
            assert await stores.leases.acquire("lease", "node", 60)
        (record,) = [record for record in caplog.records if record.name.startswith("sqlalchemy.pool")]
        assert record.exc_info is None
        assert record.getMessage().endswith(": InterfaceError")

    async def test_a_deadlock_is_retried(self, postgres_database):
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as other:
            first, second = sorted([await created(stores), await created(stores)], key=lambda row: row.id)
            await other.execute(
                "SET deadlock_timeout = '60s'"
            )  # the other side detects the deadlock and becomes the victim
            async with other.transaction():
                await other.execute("UPDATE sessions SET retries = 9 WHERE id = $1", second.id)
                rotating = [
                    asyncio.create_task(stores.sessions.rotate(a_rotation(row.id))) for row in (first, second)
                ]
                await eventually(lambda: waiting(postgres_database))
                await other.execute("UPDATE sessions SET retries = 9 WHERE id = $1", first.id)
            assert generations(await asyncio.gather(*rotating)) == [1, 1]

    async def test_a_lock_that_is_not_released_fails_the_calls(self, postgres_database, monkeypatch):
        for module in (postgresql, servers):
            monkeypatch.setattr(module, "STATEMENT_TIMEOUT", 2.0)
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as other:
            session = await created(stores)
            async with other.transaction():
                await other.execute("SELECT 1 FROM sessions, log_head FOR UPDATE")
                operations = every_operation(stores, session)
                await all_fail({name: operations[name] for name in ("rotate", "append", "save", "compact")})
                assert await stores.sessions.get(session.id) == session
            assert await stores.sessions.rotate(a_rotation(session.id)) is not None
            assert (await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")]))[0].sequence == 1

    @staticmethod
    async def kill_all(admin):
        killed = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'token-service'"
        )
        return len(killed)


async def waiting(url):
    """Return whether a connection of the service waits for a lock."""
    async with connection_to(url) as observer:
        return await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'token-service' AND wait_event_type = 'Lock'"
        )


def all_closed(stores):
    lanes = [*stores._database._write_lanes, stores._database._read_lane]
    return all(lane._connection is None or lane._connection.is_closed() for lane in lanes)


class TestPostgresServer:
    async def test_outage_fails_every_call_until_the_server_is_back(self, private_postgres):
        url = private_postgres.create_database()
        async with SqlStores(url) as stores:
            await stores.migrate()
            session = await created(stores)
            operations = every_operation(stores, session)
            for call in operations.values():
                await call()
            private_postgres.stop()
            await all_fail(operations)
            with pytest.raises(StoreUnavailableError):
                await stores.require_current()
            private_postgres.start()
            for call in operations.values():
                await call()

    async def test_a_long_queue_fails_within_one_deadline(self, private_postgres, monkeypatch):
        for module in (postgresql, servers):
            monkeypatch.setattr(module, "STATEMENT_TIMEOUT", 2.0)
        monkeypatch.setattr(servers, "CONNECT_TIMEOUT", 2.0)
        monkeypatch.setattr(database, "DEADLINE", 5.0)
        url = private_postgres.create_database()
        async with SqlStores(url) as stores:
            await stores.migrate()
            session = await created(stores)
            await stores.sessions.get(session.id)
            private_postgres.pause()
            try:
                async with asyncio.timeout(25):  # 31 batches of 2 s in two lanes would take 32 s
                    answers = await asyncio.gather(
                        *(stores.sessions.rotate(a_rotation(session.id)) for _ in range(2000)),
                        return_exceptions=True,
                    )
                    assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
                    await all_fail(every_operation(stores, session))
            finally:
                private_postgres.resume()
            await eventually(lambda: works(stores, session))

    async def test_acknowledged_writes_survive_a_crash(self, private_postgres):
        url = private_postgres.create_database()
        async with SqlStores(url) as stores:
            await stores.migrate()
            sessions = [await created(stores) for _ in range(20)]
            await asyncio.gather(*(stores.sessions.rotate(a_rotation(session.id)) for session in sessions))
            head, _ = await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
            private_postgres.kill()
            private_postgres.start()
            # A call on a connection that the crash has cut fails, and the next one connects again.
            await eventually(lambda: works(stores, sessions[0]))
            assert await stores.log.head() == head
            rows = [await stores.sessions.get(session.id) for session in sessions]
            assert generations(rows) == [1] * 20


async def works(stores, session):
    try:
        return await stores.sessions.get(session.id)
    except StoreUnavailableError:
        return None


class TestPostgresSettings:
    async def test_a_database_with_other_defaults_does_not_weaken_the_contracts(self, postgres_database):
        async with connection_to(postgres_database) as admin:
            name = await admin.fetchval("SELECT current_database()")
            for setting in ("synchronous_commit = 'off'", "default_transaction_isolation = 'serializable'"):
                await admin.execute(f'ALTER DATABASE "{name}" SET {setting}')
        async with SqlStores(postgres_database) as stores:
            session = await created(stores)
            await stores.sessions.get(session.id)
            await stores.nodes.reports(60)
            lanes = [*stores._database._write_lanes, stores._database._read_lane]
            raw = [
                lane._connection
                for lane in lanes
                if isinstance(lane, postgresql.PostgresLane) and lane._connection is not None
            ]
            assert len(raw) == 2
            for connection in raw:
                await self.check(connection.fetchval)

            async def through_engine(connection):
                async def ask(statement):
                    return (await connection.exec_driver_sql(statement)).scalar()

                await self.check(ask)

            await stores._database.write(through_engine)

    @staticmethod
    async def check(ask):
        assert await ask("SHOW synchronous_commit") == "on"
        assert await ask("SHOW transaction_isolation") == "read committed"
        assert await ask("SHOW statement_timeout") == "5s"
        assert await ask("SHOW application_name") == "token-service"

    async def test_a_stronger_synchronous_commit_is_kept(self, postgres_database):
        async with connection_to(postgres_database) as admin:
            name = await admin.fetchval("SELECT current_database()")
            await admin.execute(f"ALTER DATABASE \"{name}\" SET synchronous_commit = 'remote_apply'")
        connection = await Servers(DatabaseUrl.parse(postgres_database)).connect()
        assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
        await connection.close()

    async def test_locks_of_a_process_stopped_within_a_statement_are_released(self, postgres_database):
        async with SqlStores(postgres_database) as stores:
            await created(stores)
            stopped = await Servers(DatabaseUrl.parse(postgres_database)).connect(statement_timeout=0.1)
            await stopped.execute("BEGIN")
            await stopped.execute("UPDATE log_head SET sequence = sequence")
            # Only the first part of a statement is sent: the server waits, and none of its own limits counts.
            await stopped.prepare("SELECT 1")
            async with connection_to(postgres_database) as admin:
                await asyncio.sleep(0.5)  # longer than the limits of the server
                states = await admin.fetch(
                    "SELECT state, wait_event FROM pg_stat_activity WHERE pid = $1", stopped.get_server_pid()
                )
                assert [tuple(row) for row in states] == [("active", "ClientRead")]
                assert await stores.stalled.end() == 0
                assert await stores.stalled.end(age=0.3) == 1
                await admin.execute("UPDATE log_head SET sequence = sequence", timeout=30)
            await eventually(stopped.is_closed)

    async def test_no_more_connections_than_allowed(self, postgres_database):
        async with SqlStores(postgres_database, pool_size=4) as stores:
            session = await created(stores)
            async with connection_to(postgres_database) as admin:
                await asyncio.gather(
                    *(call() for _ in range(2) for call in every_operation(stores, session).values())
                )
                count = await admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name = 'token-service'"
                )
            assert count <= 4


_BROWSERS = [
    Origin(
        "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}) Gecko/20100101",
    )
    for version in (144, 145)
]


class TestRotationsOnPostgres:
    async def test_each_is_one_heap_only_update_without_a_new_row(self, postgres_database):
        async with SqlStores(postgres_database) as stores, connection_to(postgres_database) as admin:
            sessions = [await created(stores) for _ in range(100)]
            for generation in range(10):
                for start in range(0, 100, 10):
                    await asyncio.gather(
                        *(
                            stores.sessions.rotate(
                                a_rotation(session.id, generation, origin=_BROWSERS[generation % 2])
                            )
                            for session in sessions[start : start + 10]
                        )
                    )
        async with connection_to(postgres_database) as admin:

            async def counted():
                inserted, updated, hot = await admin.fetchrow(
                    "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
                )
                assert (inserted, updated) == (100, 1000)
                # The first row versions on a page that has just filled up move to another page once.
                assert hot >= 800
                return True

            await eventually(counted)

    async def test_every_hot_statement_uses_an_index(self, postgres_database):
        async with SqlStores(postgres_database) as stores:
            connection = await Servers(DatabaseUrl.parse(postgres_database)).connect(
                postgresql._LANE_SETTINGS
            )
            for name in ("_by_request", "_by_id", "_details", "_rotate", "_retry", "_use", "_use_with_hash"):
                statement = getattr(stores.sessions, name)
                await connection.execute(f"PREPARE p AS {statement.sql}")
                arguments = ", ".join(["NULL"] * len(statement.names))
                rows = await connection.fetch(f"EXPLAIN EXECUTE p({arguments})")
                plan = "\n".join(row[0] for row in rows)
                await connection.execute("DEALLOCATE p")
                assert "Seq Scan" not in plan, (name, plan)
            await connection.close()


class TestSqliteLocks:
    async def test_writers_wait_for_a_writer_in_another_process(self, sqlite_database):
        async with SqlStores(sqlite_database) as stores:
            session = await created(stores)
            with sqlite3.connect(sqlite_database.removeprefix("sqlite:///"), isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                operations = every_operation(stores, session)
                writing = [asyncio.create_task(operations[name]()) for name in ("rotate", "append", "save")]
                # Readers don't wait.
                assert await stores.sessions.get(session.id) == session
                assert (await stores.log.head()).sequence == 0
                assert not any(task.done() for task in writing)
                other.execute("COMMIT")
            other.close()
            row, (head, _), saved = await asyncio.gather(*writing)
            assert (row.generation, head.sequence, saved) == (1, 1, True)

    async def test_writers_fail_after_the_busy_timeout(self, sqlite_database, monkeypatch):
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.3)
        monkeypatch.setattr(database, "ATTEMPTS", 1)
        async with SqlStores(sqlite_database) as stores:
            session = await created(stores)
            with sqlite3.connect(sqlite_database.removeprefix("sqlite:///"), isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                operations = every_operation(stores, session)
                await all_fail({name: operations[name] for name in ("rotate", "append", "save", "acquire")})
                other.execute("ROLLBACK")
            other.close()
            assert await stores.sessions.rotate(a_rotation(session.id)) is not None
            assert (await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")]))[0].sequence == 1

    async def test_two_nodes_under_load_both_make_progress(self, sqlite_database):
        async with SqlStores(sqlite_database) as one, SqlStores(sqlite_database) as other:

            async def work(stores, name):
                for n in range(60):
                    session = await created(stores, subject=name)
                    assert await stores.sessions.rotate(a_rotation(session.id)) is not None
                    if n % 5 == 0:
                        await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, f"{name} {n}")])
                        await stores.leases.acquire(name, name, 1)

            async with asyncio.timeout(100):
                await asyncio.gather(
                    *(work(one, f"a{n}") for n in range(4)), *(work(other, f"b{n}") for n in range(4))
                )
            assert (await one.log.head()).sequence == 8 * 12

    async def test_a_full_disk_is_named_and_writes_resume_once_space_is_free(
        self, sqlite_database, monkeypatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA max_page_count=1"))
            async with SqlStores(sqlite_database) as stores:
                subject = "x" * 8192  # more than a page
                for call in (
                    lambda: created(stores, subject=subject),
                    lambda: stores.log.append([a_draft(RevocationTarget.SUBJECT, subject)]),
                ):
                    with pytest.raises(
                        StoreUnavailableError, match="the database has no space left: free some on its disk"
                    ):
                        await asyncio.gather(*(call() for _ in range(50)))
                head = await stores.log.head()
                assert len(await stores.log.read(0, 100)) == head.sequence
        async with SqlStores(sqlite_database) as stores:
            await created(stores)
            after, _ = await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")])
            assert after.sequence == head.sequence + 1

    async def test_every_connection_is_durable(self, sqlite_database):
        async with SqlStores(sqlite_database) as stores:
            session = await created(stores)
            await stores.sessions.get(session.id)
            expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
            for lane in (*stores._database._write_lanes, stores._database._read_lane):
                assert isinstance(lane, SqliteLane)
                assert lane._connection is not None
                for pragma, value in expected.items():
                    assert lane._connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)

            async def through_engine(connection):
                for pragma, value in expected.items():
                    assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar() == value

            await stores._database.read(through_engine)


class TestAtTheStart:
    async def test_an_empty_database_needs_a_migration(self, sql_backend, postgres_server, tmp_path):
        url = (
            f"sqlite:///{tmp_path}/new.db"
            if sql_backend.name == "sqlite"
            else postgres_server.create_database()
        )
        async with SqlStores(url) as stores:
            with pytest.raises(ConfigurationError, match="run `token-service migrate`"):
                await stores.require_current()
            assert not (tmp_path / "new.db").exists()
            assert await stores.migrate() == migrations.HEAD
            await stores.require_current()
            assert await stores.migrate() == migrations.HEAD
            assert (await stores.log.head()).sequence == 0

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    async def test_another_encoding_than_utf8_is_refused(self, postgres_server, encoding):
        url = postgres_server.create_database()
        name = f"{database_name(url)}_{encoding.lower()}"
        async with connection_to(url) as admin:
            await admin.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            )
        other = url.replace(database_name(url), name)
        try:
            async with SqlStores(other) as stores:
                for look in (stores.migrate, stores.require_current):
                    with pytest.raises(
                        ConfigurationError, match=f"the encoding {encoding}, the service needs UTF8"
                    ):
                        await look()
        finally:
            postgres_server.drop_database(other)
            postgres_server.drop_database(url)

    async def test_a_wrong_password_is_refused_and_hidden(self, postgres_database):
        wrong = postgres_database.replace("token_service:", "token_service:SECRETPART")
        async with SqlStores(wrong) as stores:
            with pytest.raises(
                ConfigurationError, match=r"postgresql://token_service:\*\*\*@.*InvalidPassword"
            ) as caught:
                await stores.require_current()
            assert "SECRETPART" not in "".join(traceback.format_exception(caught.value))
            for call in every_operation(stores, a_session()).values():
                with pytest.raises(TokenServiceError) as caught_here:
                    await call()
                assert "SECRETPART" not in "".join(traceback.format_exception(caught_here.value))
        assert "SECRETPART" not in repr(stores._database.url) + str(stores._database.engine.url)

    async def test_a_missing_database_is_refused(self, postgres_database):
        async with SqlStores(postgres_database + "_missing") as stores:
            with pytest.raises(ConfigurationError, match="check user, password and database"):
                await stores.migrate()

    async def test_an_unreachable_server_is_unavailable(self):
        async with SqlStores("postgresql://u:SECRETPART@127.0.0.1:1/db") as stores:
            with pytest.raises(StoreUnavailableError, match=r"u:\*\*\*@127.0.0.1:1/db is unavailable"):
                await stores.require_current()

    async def test_a_missing_directory_is_refused(self, tmp_path):
        async with SqlStores(f"sqlite:///{tmp_path}/missing/x.db") as stores:
            with pytest.raises(ConfigurationError, match="No such file or directory"):
                await stores.migrate()

    async def test_a_file_that_is_no_database_is_refused(self, tmp_path):
        (tmp_path / "x.db").write_text("not a database" * 100)
        async with SqlStores(f"sqlite:///{tmp_path}/x.db") as stores:
            with pytest.raises(TokenServiceError):
                await stores.migrate()


async def test_hashes_are_compared_as_bytes(sql_backend):
    async with sql_backend.open() as stores:
        session = await created(stores, refresh_hash=b"\x00'\"%\xff" + digest("x"))
        assert (
            await stores.sessions.rotate(a_rotation(session.id, current_hash=session.refresh_hash))
            is not None
        )

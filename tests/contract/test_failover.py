"""The SQL stores with a server that is a standby, is read-only or was promoted."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.contract.builders import a_draft, a_session
from tests.contract.test_event_log import a_change
from tests.contract.test_sql_faults import all_fail, connection_to, created, every_operation
from tests.faults.proxy import Proxy
from tests.support.deadline import eventually
from tests.support.memory_audit import AUDIT_KEYS
from tests.support.postgres import PostgresServer
from tests.support.standby import StandbyServer
from tests.unit.core.node import SYSTEM, RecordingAudit
from token_service.clock import SystemClock
from token_service.core.revocation.failover_log import FailoverLog
from token_service.core.revocation.log import LogMovedError
from token_service.core.revocation.log_renewal import renew_log
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import StoreUnavailableError
from token_service.stores.sql import SqlStores
from token_service.tokens.revocation import RevocationTarget

TOKEN, SUBJECT = RevocationTarget.TOKEN_ID, RevocationTarget.SUBJECT


def opened(url: str) -> SqlStores:
    """The stores of a node of its own."""
    return SqlStores(url, audit_keys=AUDIT_KEYS, node_id=str(uuid4()))


def address(server):
    return f"127.0.0.1:{server.port}"


def through(proxy, url):
    """The same database, reached through a proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{proxy.address}").geturl()


def on(server, url):
    """The same database on a copy of its server."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{server.port}").geturl()


@pytest.fixture
async def cluster():
    with PostgresServer(fsync=False) as primary, StandbyServer(primary) as standby:
        url = primary.create_database()
        async with opened(url) as stores:
            await stores.migrate()
        await asyncio.to_thread(standby.start)
        yield primary, standby, url


@pytest.fixture
def cluster_server():
    with PostgresServer(fsync=False) as server:
        yield server


def a_failover_log(stores):
    return FailoverLog(stores.log, SystemClock(), secrets.token_bytes, RecordingAudit())


async def fail_over(primary, standby):
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(standby.promote)


class TestStandby:
    async def test_fails_every_operation_until_the_primary_is_reachable(self, cluster):
        primary, standby, url = cluster
        async with Proxy(address(standby)) as proxy, opened(through(proxy, url)) as stores:
            await asyncio.to_thread(standby.catch_up)
            await all_fail(every_operation(stores, a_session()))
            proxy.lead_to(address(primary))
            assert (await stores.log.head()).sequence == 0
            session = await created(stores)
            for name, call in every_operation(stores, session).items():
                assert await call() is not NotImplemented, name

    async def test_loses_its_connections_once_the_primary_is_reachable_again(self, cluster):
        primary, standby, url = cluster
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            session = await created(stores)
            await asyncio.to_thread(standby.catch_up)
            proxy.lead_to(address(standby))
            proxy.cut()
            proxy.heal()
            await eventually(lambda: fails(stores.log.head))
            await all_fail(every_operation(stores, session))
            proxy.lead_to(address(primary))
            head, _ = await stores.log.append([a_draft(TOKEN, "t")])
            assert await stores.log.head() == head
            found = await stores.sessions.get(session.id)
            assert found is not None
            assert found.id == session.id

    async def test_is_named_by_migrate_and_by_the_check_of_the_schema(self, cluster):
        _, standby, url = cluster
        await asyncio.to_thread(standby.catch_up)
        async with opened(on(standby, url)) as stores:
            for look in (stores.migrate, stores.require_current):
                with pytest.raises(StoreUnavailableError, match="is a standby or read-only"):
                    await look()

    async def test_in_a_url_of_several_servers_is_passed_over_for_the_primary(self, cluster):
        primary, standby, url = cluster
        parts = urlsplit(url)
        both = f"{parts.netloc.rpartition('@')[0]}@{address(standby)},{address(primary)}"
        await asyncio.to_thread(standby.catch_up)
        async with opened(parts._replace(netloc=both).geturl()) as stores:
            await stores.require_current()
            await stores.log.append([a_draft(TOKEN, "t")])
            assert (await stores.log.head()).sequence == 1


class TestSeveralServers:
    async def test_a_stopped_server_does_not_keep_nodes_from_the_primary(self, cluster):
        primary, standby, url = cluster
        parts = urlsplit(url)
        both = f"{parts.netloc},{address(standby)}"
        async with opened(parts._replace(netloc=both).geturl()) as stores:
            await stores.log.append([a_draft(TOKEN, "t")])
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(primary.pause)  # neither closes connections nor refuses new ones
            try:
                await asyncio.to_thread(standby.promote)
                moved = await eventually(lambda: why_moved(stores.log.head))
                assert (moved.nothing_lost, moved.promoted) == (False, True)
            finally:
                await asyncio.to_thread(primary.resume)

    async def test_a_former_primary_that_accepts_writes_is_not_used_again(self, cluster):
        primary, standby, url = cluster
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            await stores.log.append([a_draft(TOKEN, "t")])
            session = await created(stores)
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(standby.promote)  # the old primary continues
            proxy.lead_to(address(standby))
            servers = stores._database._servers
            assert servers is not None
            connection = await servers.connect()
            connection.terminate()
            # Connections that were open before lead to the former primary still.
            proxy.lead_to(address(primary))
            await all_fail(every_operation(stores, session))
            proxy.lead_to(address(standby))
            assert await eventually(lambda: why_moved(stores.log.head))


class TestSynchronousStandby:
    @pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
    async def test_a_commit_that_no_longer_waits_for_the_standby_is_not_acknowledged(self, cluster, end):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as stores:
            await created(stores)
            await stores.log.append([a_draft(TOKEN, "t")])
            await asyncio.to_thread(standby.stop_following)
            for write in (
                lambda: created(stores),
                lambda: stores.log.append([a_draft(TOKEN, "u")]),
                lambda: stores.nodes.report(NodeReport("node", 1, [], [])),
            ):
                writing = asyncio.create_task(write())
                ended = f"SELECT count({end}(pid)) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                await eventually(partial(asyncio.to_thread, primary.query, ended))
                with pytest.raises(StoreUnavailableError):
                    await writing

    async def test_a_primary_whose_standby_was_promoted_behind_its_back_proves_nothing(self, cluster):
        _, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as old, opened(on(standby, url)) as new:
            await old.log.append([a_draft(TOKEN, "t")])
            before = await old.log.head()
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(standby.promote)  # the old primary continues
            with pytest.raises(LogMovedError):
                await new.log.head()
            await a_failover_log(new).head()
            renewed, _ = await new.log.append([a_draft(TOKEN, "u")])
            assert renewed.epoch != before.epoch
            with pytest.raises(StoreUnavailableError):
                await old.log.head()


class TestReadOnly:
    async def test_server_gives_no_head_and_loses_its_connections(self, cluster):
        primary, standby, url = cluster
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            session = await created(stores)
            operations = every_operation(stores, session)
            for call in operations.values():
                await call()
            before = await stores.log.head()
            await asyncio.to_thread(primary.configure, default_transaction_read_only="on")
            await eventually(lambda: fails(stores.log.head))
            await all_fail(operations)

            await asyncio.to_thread(standby.catch_up)
            # The read-only server lives on, and so would connections to it.
            await asyncio.to_thread(standby.promote)
            await asyncio.to_thread(standby.configure, default_transaction_read_only=None)
            proxy.lead_to(address(standby))
            with pytest.raises(LogMovedError) as moved:
                await stores.log.head()
            assert moved.value.head == before

    async def test_server_is_used_once_it_accepts_writes_again(self, cluster_server):
        url = cluster_server.create_database()
        async with opened(url) as stores:
            await stores.migrate()
            session = await created(stores)
            await asyncio.to_thread(cluster_server.configure, default_transaction_read_only="on")
            await eventually(lambda: fails(stores.log.head))
            await asyncio.to_thread(cluster_server.configure, default_transaction_read_only=None)
            await eventually(lambda: succeeds(stores.log.head))
            for call in every_operation(stores, session).values():
                await call()

    async def test_refused_write_drops_the_connections_of_the_pool(self, cluster):
        """Writes through the engine only, before which no head is read."""
        primary, standby, url = cluster
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            assert await stores.leases.acquire("lease", "node", 60)
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(standby.promote)
            await asyncio.to_thread(primary.configure, default_transaction_read_only="on")
            proxy.lead_to(address(standby))
            await eventually(lambda: succeeds(lambda: stores.leases.acquire("lease", "node", 60)))
            async with connection_to(on(standby, url)) as other:
                assert await other.fetchval("SELECT count(*) FROM leases WHERE name = 'lease'") == 1


class TestPromoted:
    async def test_synchronous_standby_keeps_the_whole_log_under_a_new_epoch(self, cluster):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            log = a_failover_log(stores)
            session = await created(stores)
            before, entries = await log.append([a_draft(TOKEN, "t"), a_draft(SUBJECT, "bob")])
            await fail_over(primary, standby)
            proxy.lead_to(address(standby))

            after = await eventually(lambda: unless_unavailable(log.head))
            assert after.epoch != before.epoch
            assert after.sequence > 2**40 > before.sequence
            assert (await log.read(0, 10))[:2] == entries
            later, (entry,) = await log.append([a_draft(TOKEN, "later")])
            assert (later.epoch, entry.sequence) == (after.epoch, after.sequence + 1)
            alive = await stores.sessions.get(session.id)
            assert alive is not None
            assert (alive.floor, alive.head) == (0, later.sequence)  # nothing was revoked

    async def test_of_several_nodes_one_renews_the_log(self, cluster):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as stores:
            await stores.log.append([a_draft(TOKEN, "t")])
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as one, opened(on(standby, url)) as other:
            logs = [a_failover_log(stores) for stores in (one, other)] * 4
            heads = await asyncio.gather(*(log.head() for log in logs))
            assert {head.epoch for head in heads} == {(await one.log.head()).epoch}
            assert len(await one.log.read(0, 10)) == 2

    async def test_append_renews_the_log_as_well(self, cluster):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as stores:
            before, _ = await stores.log.append([a_draft(TOKEN, "t")])
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            head, (entry,) = await a_failover_log(stores).append([a_draft(SUBJECT, "bob")])
            assert head.epoch != before.epoch
            assert entry.sequence == head.sequence > 2**40

    async def test_standby_that_lacks_entries_is_refused_by_nodes_that_never_saw_them(self, cluster):
        primary, standby, url = cluster
        async with opened(url) as stores:
            await stores.log.append([a_draft(TOKEN, "known")])
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(standby.stop_following)
            await stores.log.append([a_draft(TOKEN, "lost")])
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            log = a_failover_log(stores)
            for call in (log.head, lambda: log.append([a_draft(TOKEN, "another")])):
                with pytest.raises(LogMovedError, match="token-service log renew") as moved:
                    await call()
                assert not moved.value.nothing_lost
            with pytest.raises(StoreUnavailableError):  # the sessions may lack writes as well
                await created(stores)
            assert [entry.value for entry in await stores.log.read(0, 10)] == ["known"]

    @pytest.mark.parametrize("nothing_lost", [True, False])
    async def test_an_operator_renews_the_log(self, cluster, nothing_lost):
        primary, standby, url = cluster
        async with opened(url) as stores:
            session = await created(stores)
            await stores.log.append([a_draft(TOKEN, "t")])
            await asyncio.to_thread(standby.catch_up)
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            with pytest.raises(LogMovedError) as moved:
                await stores.log.head()
            clock = SystemClock()
            await renew_log(
                stores.log,
                moved.value.head,
                clock.now(),
                secrets.token_bytes,
                RecordingAudit(),
                SYSTEM,
                nothing_lost=nothing_lost,
            )
            head = await stores.log.head()
            assert head.epoch != moved.value.head.epoch
            alive = await stores.sessions.get(session.id)
            assert alive is not None
            assert (alive.revision >= alive.floor) is nothing_lost
            await created(stores)

    async def test_numbers_no_event_before_the_log_is_renewed(self, cluster):
        """A number that the former primary gave out must not name another event."""
        primary, standby, url = cluster
        async with opened(url) as stores:
            await stores.audit.append([a_change(1)])
            assert await stores.events.sequence(10) == 1
            await stores.audit.append([a_change(2)])
            await asyncio.to_thread(standby.catch_up)
            await asyncio.to_thread(standby.stop_following)
            assert await stores.events.sequence(10) == 1
            (_, lost) = await stores.events.read(0, 10)
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            with pytest.raises(LogMovedError) as moved:
                await stores.events.sequence(10)
            before = await stores.events.head()
            assert (before.sequence, before.waiting) == (1, True)
            assert [event.sequence for event in await stores.events.read(0, 10)] == [1]
            await renew_log(
                stores.log,
                moved.value.head,
                SystemClock().now(),
                secrets.token_bytes,
                RecordingAudit(),
                SYSTEM,
                nothing_lost=False,
            )
            assert await stores.events.sequence(10) >= 1
            _, again, *_ = await stores.events.read(0, 10)
            assert again.id == lost.id
            assert again.sequence > 2**40 > lost.sequence

    async def test_standby_that_lacks_an_entry_the_node_knew_has_lost_it(self, cluster):
        """Holds also when the standby was synchronous before it fell behind."""
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
            log = a_failover_log(stores)
            await log.append([a_draft(TOKEN, "known")])
            await asyncio.to_thread(primary.configure, synchronous_standby_names=None)
            await asyncio.to_thread(standby.stop_following)
            await log.append([a_draft(TOKEN, "lost")])
            await fail_over(primary, standby)
            proxy.lead_to(address(standby))
            moved = await eventually(lambda: why_moved(log.head))
            assert moved.head.sequence == 1

    async def test_commit_without_a_standby_does_not_prove_that_nothing_was_lost(self, cluster):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as stores:
            await stores.log.append([a_draft(TOKEN, 1)])
            await asyncio.to_thread(primary.configure, synchronous_standby_names=None)
            await stores.log.append([a_draft(TOKEN, 2)])
            await asyncio.to_thread(standby.catch_up)
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            with pytest.raises(LogMovedError) as moved:
                await stores.log.head()
            assert not moved.value.nothing_lost

    async def test_compaction_records_a_standby_that_was_added(self, cluster):
        primary, standby, url = cluster
        async with opened(url) as stores:
            await stores.log.append([a_draft(TOKEN, 1)])
            await asyncio.to_thread(standby.make_synchronous)
            await stores.log.compact(0, 10)
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            with pytest.raises(LogMovedError) as moved:
                await stores.log.head()
            assert moved.value.nothing_lost

    async def test_entry_of_an_older_node_does_not_prove_that_nothing_was_lost(self, cluster):
        primary, standby, url = cluster
        await asyncio.to_thread(standby.make_synchronous)
        async with opened(url) as stores:
            await stores.log.append([a_draft(TOKEN, 1)])
            async with stores._database.engine.begin() as connection:
                await connection.exec_driver_sql("UPDATE log_head SET sequence = 2")
        await fail_over(primary, standby)
        async with opened(on(standby, url)) as stores:
            with pytest.raises(LogMovedError) as moved:
                await stores.log.head()
            assert not moved.value.nothing_lost


async def test_an_accepted_loss_is_repaired_by_a_node_that_knows_the_entries(cluster):
    primary, standby, url = cluster
    async with Proxy(address(primary)) as proxy, opened(through(proxy, url)) as stores:
        log = FailoverLog(stores.log, SystemClock(), secrets.token_bytes, RecordingAudit(), accepts_loss=True)
        before, _ = await log.append([a_draft(TOKEN, "kept")])
        await asyncio.to_thread(standby.catch_up)
        await asyncio.to_thread(standby.stop_following)
        session = await created(stores)
        lost = [a_draft(RevocationTarget.SESSION, str(session.id)), a_draft(RevocationTarget.KEY, "stolen")]
        await log.append(lost)
        await fail_over(primary, standby)
        proxy.lead_to(address(standby))
        after = await eventually(lambda: unless_unavailable(log.head))
        assert after.epoch != before.epoch
        _, entries = await log.append([replace(draft, restored=True) for draft in lost])
        assert [entry.value for entry in entries] == [str(session.id), "stolen"]
        _, entries = await log.append(lost)  # neither exists, so without the mark both are left out
        assert entries == []


async def test_a_role_without_privileges_can_identify_its_server(cluster_server):
    url = cluster_server.create_database()
    async with opened(url) as stores:
        await stores.migrate()
    async with connection_to(url) as admin:
        await admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        await admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    parts = urlsplit(url)
    plain = parts._replace(netloc=f"plain:plain@{parts.netloc.rpartition('@')[2]}").geturl()
    async with opened(plain) as stores:
        await stores.log.append([a_draft(TOKEN, "t")])
    async with connection_to(url) as admin:
        system = await admin.fetchval("SELECT system_identifier FROM pg_control_system()")
        assert await admin.fetchval("SELECT server FROM log_head") == f"{system}/00000001"


async def fails(call):
    try:
        await call()
    except StoreUnavailableError:
        return True
    return False


async def succeeds(call):
    return not await fails(call)


async def unless_unavailable(call):
    try:
        return await call()
    except StoreUnavailableError:
        return None


async def why_moved(call):
    try:
        await call()
    except LogMovedError as error:
        return error
    except StoreUnavailableError:
        pass
    return None

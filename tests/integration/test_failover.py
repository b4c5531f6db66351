"""Nodes whose database fails over: to the right server, to the wrong one, and with lost entries."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from tests.faults.proxy import Proxy
from tests.integration.calls import STRONG, Api, refused
from tests.integration.nodes import Node, key_encryption_key
from tests.integration.test_event_streams import EventReader, start_of
from tests.support.deadline import eventually
from tests.support.postgres import PostgresServer
from tests.support.preloaded import token_service
from tests.support.standby import StandbyServer


class Site:
    """A node, its database, and the network between them."""

    def __init__(self, primary: PostgresServer, standby: StandbyServer, proxy: Proxy) -> None:
        self.primary, self.standby, self.proxy = primary, standby, proxy
        parts = urlsplit(primary.create_database())
        self.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{proxy.address}").geturl()
        self.env = {
            "TOKEN_SERVICE_DATABASE_URL": self.url,
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
            "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_REPLICA_MAX_AGE": "2s",
        }
        self.node = Node(env=self.env)

    def lead_to(self, server: PostgresServer) -> None:
        """End every connection and lead new ones to this server."""
        self.proxy.lead_to(address(server))
        self.proxy.cut()
        self.proxy.heal()

    def command(self, *arguments: str) -> str:
        """Run a command of the service and return its output."""
        done = subprocess.run(
            [*token_service(), *arguments],
            env={**self.env, "TOKEN_SERVICE_DATA_DIR": str(self.node.data_dir)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def address(server: PostgresServer) -> str:
    return f"127.0.0.1:{server.port}"


def readiness(node: Node) -> dict[str, Any]:
    connection = http.client.HTTPConnection(node.http_address, timeout=30)
    try:
        connection.request("GET", "/readyz")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, StandbyServer]]:
    with PostgresServer(fsync=False) as primary, StandbyServer(primary) as standby:
        yield primary, standby


@pytest.fixture
async def site(servers: tuple[PostgresServer, StandbyServer]) -> AsyncIterator[Site]:
    primary, standby = servers
    async with Proxy(address(primary)) as proxy:
        site = Site(primary, standby, proxy)
        async with site.node:
            yield site


async def test_a_node_led_to_a_standby_is_not_ready_until_it_reaches_the_primary(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        issued = await api.issue("alice")
        await asyncio.to_thread(site.standby.catch_up)
        site.lead_to(site.standby)
        failure = await refused(api.validate(issued.access_token, consistency=STRONG))
        assert failure.reason == "STORE_UNAVAILABLE"
        failure = await refused(api.revoke(subject="alice"))
        assert failure.reason == "STORE_UNAVAILABLE"
        await eventually(lambda: not readiness(site.node)["ready"])

        site.lead_to(site.primary)
        await eventually(lambda: readiness(site.node)["ready"])
        await api.revoke(subject="alice")
        assert not (await api.validate(issued.access_token, consistency=STRONG)).active


async def test_a_read_only_server_is_left_for_the_promoted_one(site: Site) -> None:
    """The old primary closes no connection; only new connections lead to the promoted server."""
    async with Api(site.node.grpc_address) as api:
        await asyncio.to_thread(site.standby.make_synchronous)
        revoked, good = await api.issue("bob"), await api.issue("alice")
        await api.revoke(subject="bob")
        before = urlsplit(site.url)
        assert before.scheme
        await asyncio.to_thread(site.standby.promote)
        await asyncio.to_thread(site.primary.configure, default_transaction_read_only="on")
        site.proxy.lead_to(address(site.standby))

        await eventually(lambda: answers(api, good.access_token))
        for n in range(10):
            await api.issue(f"user-{n}")
            await api.revoke(subject=f"user-{n}")
        assert (await api.validate(good.access_token, consistency=STRONG)).active
        assert not (await api.validate(revoked.access_token, consistency=STRONG)).active
        await eventually(lambda: readiness(site.node)["ready"])


async def test_promoting_a_synchronous_standby_loses_no_session_or_revocation(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        await asyncio.to_thread(site.standby.make_synchronous)
        revoked, good = await api.issue("bob"), await api.issue("alice")
        before = (await api.revoke(subject="bob")).cursor
        again = await api.issue("bob")
        await asyncio.to_thread(site.primary.kill)
        await asyncio.to_thread(site.standby.promote)
        site.lead_to(site.standby)

        await eventually(lambda: answers(api, good.access_token))
        assert not (await api.validate(revoked.access_token, consistency=STRONG)).active
        assert (await api.validate(again.access_token, consistency=STRONG)).active
        assert (await api.refresh(good.refresh_token)).access_token
        after = (await api.revoke(subject="bob")).cursor
        assert after.partition(":")[0] != before.partition(":")[0]
        assert not (await api.validate(again.access_token, consistency=STRONG)).active


async def test_promoting_a_synchronous_standby_loses_no_event(site: Site) -> None:
    """A reader resumes with its cursor, and no number is given to two events."""
    async with Api(site.node.grpc_address) as api:
        reader = EventReader([api], await start_of(api))
        await asyncio.to_thread(site.standby.make_synchronous)
        acknowledged = [(await api.revoke(subject=f"user-{n}")).cursor for n in range(20)]
        await asyncio.to_thread(site.primary.kill)
        await asyncio.to_thread(site.standby.promote)
        site.lead_to(site.standby)
        await eventually(lambda: readiness(site.node)["ready"])
        acknowledged += [(await api.revoke(subject=f"other-{n}")).cursor for n in range(20)]
        await eventually(lambda: set(acknowledged) <= reader.revocations)
        await reader.stop()
        first_seen = {event.id: event.revocation.revocation_cursor for event in reversed(reader.events)}
        assert sorted(first_seen.values()) == sorted(acknowledged)
        # Another reader gets the same events, with numbers that have jumped.
        again = EventReader([api], await start_of(api, from_earliest=True))
        await eventually(lambda: set(acknowledged) <= again.revocations)
        await again.stop()
        assert int(again.cursor.partition(":")[2]) > 1_000_000_000_000_000


async def test_events_that_a_promoted_standby_lacks_are_lost_and_readers_go_on(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        reader = EventReader([api], await start_of(api))
        kept = (await api.revoke(subject="kept")).cursor
        await eventually(lambda: kept in reader.revocations)
        await asyncio.to_thread(site.standby.catch_up)
        await asyncio.to_thread(site.standby.stop_following)
        lost = (await api.revoke(subject="lost")).cursor
        await eventually(lambda: lost in reader.revocations)
        await asyncio.to_thread(site.primary.kill)
        await asyncio.to_thread(site.standby.promote)
        site.lead_to(site.standby)
        await eventually(lambda: not readiness(site.node)["ready"])
        await asyncio.to_thread(site.command, "log", "renew", "--yes")
        await eventually(lambda: readiness(site.node)["ready"])
        after = [(await api.revoke(subject=f"after-{n}")).cursor for n in range(3)]
        await eventually(lambda: set(after) <= reader.revocations)
        await reader.stop()
        again = EventReader([api], await start_of(api, from_earliest=True))
        await eventually(lambda: {kept, *after} <= again.revocations)
        await again.stop()
        assert lost not in again.revocations


async def test_a_standby_that_lacks_a_revocation_is_refused_until_the_log_is_renewed(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        issued = await api.issue("alice")
        await asyncio.to_thread(site.standby.catch_up)
        await asyncio.to_thread(site.standby.stop_following)
        await api.revoke(subject="alice")
        await asyncio.to_thread(site.primary.kill)
        await asyncio.to_thread(site.standby.promote)
        site.lead_to(site.standby)

        await eventually(lambda: not readiness(site.node)["ready"])
        (problem,) = await eventually(
            lambda: [text for text in readiness(site.node)["problems"] if "log renew" in text]
        )
        assert "promoted or replaced" in problem
        for call in (
            api.validate(issued.access_token, consistency=STRONG),
            api.revoke(subject="bob"),
            api.issue("bob"),
            api.refresh(issued.refresh_token),
        ):
            assert (await refused(call)).reason == "STORE_UNAVAILABLE"

        # A node that never saw the lost entry refuses to start as well.
        with pytest.raises(RuntimeError, match="token-service log renew"):
            await asyncio.to_thread(start_another, site)

        await asyncio.to_thread(site.command, "log", "renew", "--yes")
        await eventually(lambda: readiness(site.node)["ready"])
        assert not (await api.validate(issued.access_token, consistency=STRONG)).active
        fresh = await api.issue("alice")
        assert (await api.validate(fresh.access_token, consistency=STRONG)).active


async def test_a_complete_standby_continues_after_renewal_with_nothing_lost(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        good, revoked = await api.issue("alice"), await api.issue("bob")
        await api.revoke(subject="bob")
        await asyncio.to_thread(site.standby.catch_up)
        await asyncio.to_thread(site.primary.kill)
        await asyncio.to_thread(site.standby.promote)
        site.lead_to(site.standby)
        await eventually(lambda: not readiness(site.node)["ready"])

        output = await asyncio.to_thread(site.command, "log", "renew", "--yes", "--nothing-lost")
        assert "Nothing was revoked." in output
        await eventually(lambda: readiness(site.node)["ready"])
        assert (await api.validate(good.access_token, consistency=STRONG)).active
        assert not (await api.validate(revoked.access_token, consistency=STRONG)).active


def start_another(site: Site) -> None:
    other = Node(env=site.env)
    try:
        other.start()
    finally:
        other.close()


async def answers(api: Api, token: str) -> bool:
    try:
        await api.validate(token, consistency=STRONG)
    except grpc.aio.AioRpcError:
        return False
    return True

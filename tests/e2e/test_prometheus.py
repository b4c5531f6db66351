"""Debian's Prometheus with the dashboards and the rules: each query finds data, and each alert fires."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from math import isnan
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio

from tests.e2e.alert_world import World, repeating, world
from tests.e2e.rule_cases import CASES
from tests.integration.calls import Api
from tests.support.deadline import eventually
from tests.support.files import rewrite
from tests.support.postgres import driver_url
from tests.support.prometheus import Prometheus, promtool
from token_service.telemetry.monitoring.alerts import groups
from token_service.telemetry.monitoring.dashboards import DASHBOARDS
from token_service.telemetry.monitoring.files import write
from token_service.telemetry.monitoring.site import Site

ALERTS: Final = {alert.name for group in groups(Site()) for alert in group.alerts}
BY_ATTACKS: Final = ("RefreshTokenReuse", "ForgedTokens", "RateLimitDenials", "HandshakeFailures")
BY_SUBSCRIBERS: Final = ("SubscribersStale", "SubscribersSilent", "PropagationSlow", "PropagationTimeouts")
BY_LEAVING: Final = ("SubscribersDropped",)
BY_CRASHES: Final = ("WorkerRestarts",)
BY_AN_OPERATOR: Final = ("PolicyFileFailing", "EverythingRevoked")
BY_REDIS: Final = ("RedisLost",)
BY_A_LOCK: Final = ("LockWaits", "PoolExhausted", "ConnectionsSlow", "LatencyBudgetFast", "LatencyBudgetSlow")
BY_THE_DATABASE: Final = (
    "NodeNotReady",
    "ReplicaBehind",
    "AuditTrailFailing",
    "JanitorBehind",
    "KeyRotationFailing",
    "ErrorBudgetFast",
    "ErrorBudgetSlow",
)
BY_CERTIFICATES: Final = ("CertificateAlmostExpired", "CertificateExpiring")
BY_ANOTHER_LOG: Final = ("ReplicasApart",)
BY_DEATH: Final = ("NodeDown", "Down")
BY_SERIES_ALONE: Final = {
    "AuditEventsLost": "10,000 events wait",
    "AuditQueueGrowing": "1,000 events wait",
    "CallersDenied": "more than one call in a second without a right or a proof: too fast for a busy machine",
    "EventsWaiting": "no node moves events for a minute",
    "EventStreamBehind": "15 minutes",
    "EventStreamPaused": "1,000 events wait",
    "InternalErrors": "a defect",
    "JanitorSlow": "a purge takes longer than JANITOR_INTERVAL",
    "KeyOverdue": "an hour",
    "LogoutsGivenUp": "a day",
    "LogoutsPending": "100 clients are away",
    "NoNextKey": "nodes make a key at once",
    "QueueLong": "5,000 statements wait",
    "SigningFailing": "an HSM fails",
    "SigningSlow": "an HSM is slow",
    "VersionsMixed": "two versions run",
    "WebhookDeadLetters": "an hour",
    "WebhooksFailing": "a quarter of an hour",
}
"""Alerts that fire in tests with time series only, with a cause that takes too long or can't be made here."""
SCENARIOS: Final = (
    *(BY_ATTACKS, BY_SUBSCRIBERS, BY_LEAVING, BY_CRASHES, BY_AN_OPERATOR, BY_REDIS, BY_A_LOCK),
    *(BY_THE_DATABASE, BY_CERTIFICATES, BY_ANOTHER_LOG, BY_DEATH),
)

live = pytest.mark.asyncio(loop_scope="module")


def test_rules_and_configuration_are_valid(tmp_path: Path) -> None:
    write(tmp_path, Site())
    done = promtool("check", "config", "prometheus.yml", directory=tmp_path / "prometheus")
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == ALERTS


def test_every_alert_has_a_scenario_or_a_reason() -> None:
    by_trouble = [name for names in SCENARIOS for name in names]
    assert sorted([*by_trouble, *BY_SERIES_ALONE]) == sorted(ALERTS)


@pytest.mark.parametrize("every", sorted({case.every for case in CASES}))
@pytest.mark.parametrize("is_budget", [False, True])
def test_alerts_fire_and_are_quiet_just_below(tmp_path: Path, every: int, *, is_budget: bool) -> None:
    write(tmp_path, Site())
    cases = [case for case in CASES if case.every == every and ("Budget" in case.alert) is is_budget]
    document = {
        "rule_files": ["recording.yml", "alerts.yml"] if is_budget else ["alerts.yml"],
        "evaluation_interval": f"{every}m",
        "tests": [test for case in cases for test in case.tests()],
    }
    directory = tmp_path / "prometheus"
    (directory / "tests.yml").write_text(json.dumps(document))
    done = promtool("test", "rules", "tests.yml", directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


def finds_data(prometheus: Prometheus, query: str) -> bool:
    filled = query.replace("$job", ".+").replace("$instance", ".+").replace("$__rate_interval", "15s")
    return any(not isnan(float(series["value"][1])) for series in prometheus.query(filled))


@live
async def test_every_query_finds_data(made: World) -> None:
    left = {
        (dashboard.name, panel.title, query)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    }

    async def all_found() -> bool:
        for each in [*left]:
            if await asyncio.to_thread(finds_data, made.prometheus, each[2]):
                left.discard(each)
        assert not left, f"without data: {sorted(left)}"
        return True

    await eventually(all_found, timeout=120, interval=1)


@live
async def test_attacks_fire(made: World) -> None:
    await made.until_fired(*BY_ATTACKS)


@live
async def test_subscribers_that_confirm_nothing_and_leave_fire(made: World) -> None:
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(Api(made.nodes[1].grpc_address)) for _ in range(12)]
        streams = [other.stream(subscriber_id=f"mute {number}") for number, other in enumerate(others)]
        for stream in streams:
            await stream.read()
        await made.until_fired(*BY_SUBSCRIBERS)
        for stream in streams:
            stream.cancel()
        await made.until_fired(*BY_LEAVING)


@live
async def test_a_lock_on_a_table_fires(made: World) -> None:
    connection = await asyncpg.connect(driver_url(made.url))
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        async with AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(Api(made.nodes[0].grpc_address)) for _ in range(10)]
            steps = [lambda number, api=api: api.issue(f"waiting {number}") for api in callers]
            await stack.enter_async_context(repeating(*steps))
            await made.until_fired(*BY_A_LOCK)
    finally:
        await connection.close()


@live
async def test_workers_that_crash_fire(made: World) -> None:
    await made.until_all_serve()
    # At once, so that the starts of a busy machine are within the window. One stays and answers scrapes.
    for worker in made.nodes[1].children()[1:]:
        os.kill(worker, signal.SIGKILL)
    await made.until_fired(*BY_CRASHES)


@live
async def test_a_broken_policy_file_and_a_revocation_of_everything_fire(made: World) -> None:
    await made.until_all_serve()  # a worker does not start with the file
    rewrite(made.policies, "[classifications.internal]\naccess_token_ttl = 'never'\n")
    async with Api(made.nodes[0].grpc_address) as api:
        await api.revoke(everything=True)
    await made.until_fired(*BY_AN_OPERATOR)
    rewrite(made.policies, made.policy_text)


@live
async def test_a_lost_redis_fires(made: World) -> None:
    made.redis.kill()
    await made.until_fired(*BY_REDIS)
    await asyncio.to_thread(made.redis.start)


@live
async def test_a_certificate_that_expires_soon_fires(made: World) -> None:
    await made.until_fired(*BY_CERTIFICATES)


@live
async def test_a_node_with_another_log_fires(made: World) -> None:
    await made.until_fired(*BY_ANOTHER_LOG)


@live
async def test_a_stopped_database_fires(made: World) -> None:
    await asyncio.to_thread(made.tls.kill)  # it has a database of its own, and a janitor that works
    await asyncio.to_thread(made.postgres.stop)
    await made.until_fired(*BY_THE_DATABASE)
    await asyncio.to_thread(made.postgres.start)
    await asyncio.to_thread(made.tls.start)
    await made.until_all_serve()


@live
async def test_dead_nodes_fire(made: World) -> None:
    for node in (*made.nodes, made.tls):
        await asyncio.to_thread(node.kill)
    await made.until_fired(*BY_DEATH)

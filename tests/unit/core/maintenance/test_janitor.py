"""The janitor removes only rows that no token needs, on one node at once and in small batches."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, raising, sequences
from tests.unit.core.virtual_time import START, LoopClock, cancelled, settle, virtual_time
from token_service.core.grants.device_requests import DeviceRequest
from token_service.core.leases import Lease
from token_service.core.maintenance.janitor import Janitor
from token_service.core.policies.policy import DAY, MAX_SESSION_TTL, Policy
from token_service.core.revocation.drafts import REMEMBER
from token_service.core.revocation.steady_time import HOLD, SteadyTime
from token_service.errors import InvalidReason, StoreUnavailableError
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL, TokenKind
from token_service.tokens.revocation import MAX_LEEWAY, RevocationTarget

RETENTION = 7 * DAY
HOUR = 3600.0


class House:
    """A node with stores to clean, and janitors."""

    def __init__(self, **options: Any) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.sessions = Intercepted(self.stores.sessions)
        self.log = Intercepted(self.stores.log)
        self.device_requests = self.stores.device_requests
        self.leases = Intercepted(self.stores.leases)
        self.node = Node(self.clock, stores=self.stores, max_staleness=1e12, **options)

    def janitor(
        self,
        node_id: str = "node-1",
        interval: float = 60.0,
        retention: float = RETENTION,
        time: SteadyTime | None = None,
    ) -> Janitor:
        return Janitor(
            self.sessions,
            self.log,
            self.device_requests,
            Lease(self.leases, "janitor", node_id),
            time or SteadyTime(self.clock),
            self.node.audit,
            interval=interval,
            retention=retention,
        )

    def count(self) -> int:
        return len(self.stores.sessions._state.sessions)

    async def later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# --- Sessions ----------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("end", ["idle", "absolute", "revoked"])
async def test_ended_session_is_kept_for_the_retention_time(end: str):
    policy = {
        "idle": Policy(idle_timeout=100, refresh_token_ttl=10_000),
        "absolute": Policy(idle_timeout=10_000, refresh_token_ttl=100),
        "revoked": Policy(idle_timeout=30 * DAY, refresh_token_ttl=30 * DAY),
    }[end]
    house = House(policy=policy)
    await house.node.start()
    tokens = await house.node.issue()
    if end == "revoked":
        await house.later(100)
        await house.node.revoke(token=tokens.refresh_token)
        await house.later(RETENTION - 1)
    else:
        await house.later(100 + RETENTION - 1)
    assert await house.janitor().sweep() == (1 if end == "revoked" else 0)  # the entry of the log
    assert house.count() == 1
    assert (await house.node.session(tokens.session_id)).subject == "alice"
    await house.later(2)
    assert await house.janitor().sweep() == 1
    assert house.count() == 0
    assert (await house.node.validate(tokens.refresh_token)).reason is InvalidReason.UNKNOWN_SESSION
    events = house.node.audit.named("session.expired")
    assert [(each["sessions"], each["clients"]) for each in events] == (
        [] if end == "revoked" else [(1, {"web": 1})]
    )


@virtual_time
async def test_a_session_in_use_is_never_purged():
    house = House(policy=Policy(idle_timeout=100, refresh_token_ttl=20 * DAY))
    await house.node.start()
    tokens = await house.node.issue()
    janitor = house.janitor(retention=10)
    for _ in range(50):
        await house.later(99)
        assert await janitor.sweep() == 0
        tokens = await house.node.refresh(tokens.refresh_token)


# --- The log -----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_request_of_a_device_is_kept_for_a_minute_after_its_expiry():
    house = House()
    await house.node.start()
    request = DeviceRequest(
        user_code_digest=b"u",
        code_digest=b"c",
        client_id="tv",
        scopes=(),
        audience=(),
        expire_time=house.clock.now() + 600,
    )
    await house.device_requests.add(request)
    await house.later(659)
    assert await house.janitor().sweep() == 0
    await house.later(2)
    assert await house.janitor().sweep() == 1
    assert await house.device_requests.find(b"u") is None


@virtual_time
async def test_entry_is_kept_until_the_tokens_it_hits_have_expired():
    house = House()
    await house.node.start()
    tokens = await house.node.issue(access_token_ttl=MAX_ACCESS_TOKEN_TTL)
    await house.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    await house.later(MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY)
    assert await house.janitor().sweep() == 0
    late = await Node(house.clock, stores=house.stores, node_id="node-2").start()
    assert len(late.replica.revocations) == 1
    await house.later(61)
    assert await house.janitor().sweep() == 1
    head = await house.stores.log.head()
    assert (head.sequence, head.compacted) == (1, 1)
    assert (await house.node.validate(tokens.access_token)).reason is InvalidReason.EXPIRED


@virtual_time
async def test_the_log_is_purged_from_its_beginning_without_a_gap():
    house = House()
    await house.node.start()
    await house.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    short = await house.node.issue(access_token_ttl=10)
    await house.node.revoke(token=short.access_token)
    await house.later(10 + MAX_LEEWAY + 61)
    assert await house.janitor().sweep() == 0  # the second has expired, but the first precedes it
    assert sequences(await house.stores.log.read(0, 10)) == [1, 2]
    await house.later(REMEMBER)
    assert await house.janitor().sweep() == 3  # with the floor of the first


@virtual_time
async def test_a_floor_outlives_every_session_that_is_older():
    house = House(policy=Policy(idle_timeout=MAX_SESSION_TTL, refresh_token_ttl=MAX_SESSION_TTL))
    await house.node.start()
    tokens = await house.node.issue(kinds=frozenset({TokenKind.SESSION}))
    await house.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    janitor = house.janitor()
    while house.clock.now() < START + MAX_SESSION_TTL - 40 * DAY:
        await house.later(40 * DAY)
        await janitor.sweep()
        assert house.stores.sessions._state.floors
        assert (await house.node.validate(tokens.session_token)).reason is InvalidReason.REVOKED
    await house.later(41 * DAY + RETENTION)
    await janitor.sweep()
    assert not house.stores.sessions._state.floors
    assert house.count() == 0


# --- Batches and leases --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_much_is_purged_in_batches_with_pauses():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    for _ in range(1200):
        await house.node.issue()
    await house.later(RETENTION + 2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await house.janitor().sweep() == 1200
    assert house.sessions.calls.count("purge") == 3
    assert loop.time() - began >= 0.1
    assert house.leases.calls.count("acquire") >= 5  # before each batch of each kind


@virtual_time
async def test_full_last_batch_is_followed_by_an_empty_one():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    for _ in range(500):
        await house.node.issue()
    await house.later(RETENTION + 2)
    assert await house.janitor().sweep() == 500
    assert house.sessions.calls.count("purge") == 2


@virtual_time
async def test_only_the_lease_holder_purges():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    await house.node.issue()
    await house.later(RETENTION + 2)
    assert await house.stores.leases.acquire("janitor", "node-2", 1000)
    assert await house.janitor("node-1").sweep() == 0
    assert "purge" not in house.sessions.calls
    assert await house.janitor("node-2").sweep() == 1


@virtual_time
async def test_janitor_that_loses_its_lease_stops_between_two_batches():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    for _ in range(1200):
        await house.node.issue()
    await house.later(RETENTION + 2)

    async def lose() -> None:
        house.stores.leases._leases["janitor"] = ("node-2", float("inf"))

    house.sessions.after["purge"] = lose
    assert await house.janitor("node-1").sweep() == 500
    assert house.count() == 700


@virtual_time
async def test_several_nodes_share_the_work_without_doubling_it():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    hours = 3600.0
    janitors = [
        asyncio.create_task(house.janitor(f"node-{number}", interval=6 * hours).run()) for number in range(3)
    ]
    for _ in range(20):
        await house.node.issue()
        await house.later(DAY)
    await house.later(1)
    assert house.count() <= 9
    holder, until = house.stores.leases._leases["janitor"]
    # The leader returns the lease, so another node takes over before the lease expires.
    await cancelled(janitors.pop(int(holder[-1])))
    await house.later(6 * hours + 1)
    assert house.clock.monotonic() < until
    assert house.stores.leases._leases["janitor"][0] != holder
    for task in janitors:
        await cancelled(task)


@virtual_time
async def test_purging_resumes_after_a_store_outage(caplog: pytest.LogCaptureFixture):
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    await house.node.issue()
    await house.later(RETENTION + 2)
    house.log.before["compact"] = raising(StoreUnavailableError())
    running = asyncio.create_task(house.janitor(interval=10).run())
    await house.later(95)
    assert house.count() == 1
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    house.log.before.clear()
    await house.later(10)
    assert house.count() == 0
    await cancelled(running)


@virtual_time
async def test_janitor_ends_at_once_even_if_the_lease_cannot_be_returned():
    house = House()
    await house.node.start()
    running = asyncio.create_task(house.janitor().run())
    await settle()

    async def hang() -> None:
        await asyncio.sleep(3600)

    house.leases.before["release"] = hang
    loop = asyncio.get_running_loop()
    began = loop.time()
    await cancelled(running)
    assert loop.time() - began <= 1.01
    house.leases.before["release"] = raising(StoreUnavailableError())
    running = asyncio.create_task(house.janitor().run())
    await settle()
    await cancelled(running)


@virtual_time
async def test_a_clock_that_jumps_ahead_deletes_nothing_too_early():
    house = House()
    await house.node.start()
    janitor = house.janitor()
    await janitor.sweep()
    await house.node.issue()
    await house.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    house.clock.skew = 10 * MAX_SESSION_TTL
    assert await janitor.sweep() == 0
    house.clock.skew = 0.0
    await house.later(REMEMBER + 61)
    assert await janitor.sweep() == 2  # the entry and its floor
    assert house.count() == 1


@virtual_time
async def test_a_node_whose_clock_was_ahead_from_the_start_deletes_nothing_too_early():
    house = House()
    await house.node.start()
    tokens = await house.node.issue()
    await house.node.revoke(token=tokens.access_token)
    ahead = LoopClock()
    ahead.skew = 10 * MAX_SESSION_TTL
    wrong = Node(ahead, stores=house.stores, node_id="node-2", max_staleness=1e12)
    janitor = Janitor(
        house.sessions,
        house.log,
        house.device_requests,
        Lease(house.leases, "janitor", "node-2"),
        SteadyTime(ahead),
        house.node.audit,
        interval=60.0,
        retention=RETENTION,
    )
    await wrong.start()
    for _ in range(35):
        assert await janitor.sweep() == 0
        wrong.tailer._sweep()
        assert len(wrong.replica.revocations) == 1  # subscribers that resume there get the entry
        await house.later(60)
    assert house.count() == 1
    await house.later(120)
    assert await janitor.sweep() == 1  # in time by the other clock


class Life:
    """A process on one machine between start and stop. The database uses the clock of the machine."""

    def __init__(self, house: House, number: int = 1) -> None:
        self.node = Node(
            house.clock,
            stores=house.stores,
            policy=Policy(idle_timeout=30 * DAY, access_token_ttl=MAX_ACCESS_TOKEN_TTL),
            node_id=f"life-{number}",
            max_staleness=1e12,
        )
        self.janitor = house.janitor(time=self.node.time)

    async def start(self) -> Self:
        await self.node.start()
        await self.janitor.sweep()
        self.node.tailer._sweep()
        return self

    async def is_revoked(self, token: str) -> bool:
        return (await self.node.validate(token)).reason is InvalidReason.REVOKED


@virtual_time
@pytest.mark.parametrize("ahead", [3 * HOUR, 23 * HOUR, 10 * MAX_SESSION_TTL])
@pytest.mark.parametrize("minutes", [0, 30, 59])
async def test_start_with_a_clock_ahead_deletes_no_entry(ahead: float, minutes: int):
    house = House()
    first = await Life(house).start()
    tokens = await first.node.issue(access_token_ttl=MAX_ACCESS_TOKEN_TTL)
    await first.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    house.clock.skew = ahead
    wrong = await Life(house, 2).start()
    for _ in range(minutes):
        await house.later(60)
        assert await wrong.janitor.sweep() == 0
        wrong.node.tailer._sweep()
    house.clock.skew = 0.0
    assert await wrong.is_revoked(tokens.access_token)  # corrected while the process runs
    right = await Life(house, 3).start()
    assert await right.is_revoked(tokens.access_token)
    assert len(await house.stores.log.read(0, 10)) == 1


@virtual_time
async def test_second_start_with_a_clock_ahead_deletes_no_entry():
    """The first process runs long enough to trust its clock. A revocation after it does not count as older."""
    house = House()
    house.clock.skew = 3 * HOUR
    first = await Life(house).start()
    await house.later(HOLD + 1)
    await first.janitor.sweep()
    house.clock.skew = 0.0
    right = await Life(house, 2).start()
    tokens = await right.node.issue(access_token_ttl=MAX_ACCESS_TOKEN_TTL)
    await right.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    house.clock.skew = 3 * HOUR
    await Life(house, 3).start()
    house.clock.skew = 0.0
    assert await (await Life(house, 4).start()).is_revoked(tokens.access_token)


@virtual_time
async def test_session_revoked_by_subject_stays_revoked_with_a_clock_years_ahead():
    house = House(policy=Policy(idle_timeout=30 * DAY, refresh_token_ttl=30 * DAY))
    first = await Life(house).start()
    await house.node.start()
    tokens = await house.node.issue()
    await first.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    house.clock.skew = 20 * DAY
    wrong = await Life(house, 2).start()
    for _ in range(5):
        await house.later(HOUR)
        await wrong.janitor.sweep()
    house.clock.skew = 0.0
    assert house.count() == 1
    right = await Life(house, 3).start()
    assert (await right.node.validate(tokens.refresh_token)).reason is InvalidReason.REVOKED


@virtual_time
async def test_purging_after_a_standstill_waits_until_earlier_revoked_tokens_have_expired():
    house = House(policy=Policy(idle_timeout=1))
    await (await Life(house).start()).node.issue()
    await house.later(30 * DAY)
    life = await Life(house, 2).start()
    await house.later(HOLD - 1)
    assert await life.janitor.sweep() == 0
    await house.later(2)
    assert await life.janitor.sweep() == 1
    assert house.count() == 0


@virtual_time
async def test_frequent_restarts_still_purge_expired_rows():
    house = House()
    await (await Life(house).start()).node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    purged = 0
    for number in range(2, 9):
        life = await Life(house, number).start()
        await house.later(HOUR / 4)
        purged += await life.janitor.sweep()
        assert bool(purged) == (number >= 6)
    assert purged == 2  # the entry and its floor


@virtual_time
async def test_time_stays_trusted_after_a_restart():
    house = House(policy=Policy(idle_timeout=1))
    await house.node.start()
    await house.node.issue()
    await house.later(RETENTION + 2)
    for _ in range(3):
        running = asyncio.create_task(house.janitor().run())
        await settle()
        await cancelled(running)
        assert house.count() == 0
        await house.node.issue()
        await house.later(RETENTION + 2)
        assert await house.stores.leases.acquire("janitor", "node-2", 30)  # another node purges
        await house.later(31)

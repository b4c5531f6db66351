"""The janitor over every backend: rows that are alive by the database's clock survive a node whose own clock
is years ahead.
"""

from __future__ import annotations

import time

import pytest

from tests.contract.builders import a_draft, a_session
from tests.unit.core.node import RecordingAudit
from token_service.core.leases import Lease
from token_service.core.maintenance.janitor import Janitor
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.sessions.session import SessionState
from token_service.tokens.revocation import RevocationTarget

YEARS = 5 * 365 * 86400.0


class ShiftedClock:
    def __init__(self, skew: float) -> None:
        self.skew = skew

    def now(self) -> float:
        return time.time() + self.skew

    def monotonic(self) -> float:
        return time.monotonic()


def janitor(stores, skew):
    return Janitor(
        stores.sessions,
        stores.log,
        stores.device_requests,
        Lease(stores.leases, "janitor", "wrong"),
        SteadyTime(ShiftedClock(skew)),
        RecordingAudit(),
        interval=60,
        retention=3600,
    )


@pytest.mark.parametrize("skew", [YEARS, 0.0, -YEARS])
async def test_live_rows_are_not_purged(stores, skew):
    now = time.time()
    times = dict.fromkeys(("create_time", "rotate_time", "last_use_time"), now)
    alive, _ = await stores.sessions.create(
        a_session(**times, idle_expire_time=now + 3600, absolute_expire_time=now + 86400), None
    )
    await stores.log.append(
        [
            draft_of(RevocationTarget.TOKEN_ID, "t", now),
            draft_of(RevocationTarget.SUBJECT, "bob", now),
        ]
    )
    other, _ = await stores.sessions.create(
        a_session(**times, idle_expire_time=now + 3600, absolute_expire_time=now + 86400, subject="bob"), None
    )
    for _ in range(3):
        assert await janitor(stores, skew).sweep() == 0
    assert (await stores.sessions.get(alive.id)).state(now) is SessionState.ACTIVE
    assert (await stores.sessions.get(other.id)).floor == 2
    assert len(await stores.log.read(0, 10)) == 2
    assert (await stores.log.head()).compacted == 0


@pytest.mark.parametrize("skew", [YEARS, 0.0])
async def test_expired_rows_are_purged(stores, skew):
    then = time.time() - 100_000
    times = dict.fromkeys(("create_time", "rotate_time", "last_use_time"), then)
    await stores.sessions.create(
        a_session(**times, idle_expire_time=then + 1, absolute_expire_time=then + 2), None
    )
    await stores.log.append(
        [a_draft(RevocationTarget.TOKEN_ID, "t", revoke_time=then, expire_time=then + 3900)]
    )
    assert await janitor(stores, skew).sweep() == 2
    assert (await stores.log.head()).compacted == 1


async def test_the_head_has_its_read_time_by_the_clock_of_the_database(stores):
    before = time.time()
    head = await stores.log.head()
    # The clock of this machine is the clock of the database here.
    assert before - 5 <= head.read_time <= time.time() + 5

"""After a failover a log is accepted only if it has every entry that this node knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import cast

import pytest

from tests.unit.core.node import RecordingAudit
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.revocation.failover_log import FailoverLog
from token_service.core.revocation.log import LogHead, LogMovedError, RevocationDraft, RevocationLog
from token_service.tokens.revocation import Revocation


def head_at(sequence: int, epoch: str = "first-log") -> LogHead:
    return LogHead(epoch, sequence, 0, 1, float(sequence))


class MovingLog:
    """A log that may fail over to a standby that claims to be synchronous."""

    def __init__(self) -> None:
        self.at = head_at(100)
        self.moved = False
        self.renewals = 0
        self.gate: asyncio.Event | None = None

    def fail_over(self, head: LogHead) -> None:
        self.at, self.moved = head, True

    async def head(self) -> LogHead:
        if self.moved:
            raise LogMovedError(self.at, nothing_lost=True)
        found = self.at
        if self.gate is not None:
            await self.gate.wait()
        return found

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        self.at = head_at(self.at.sequence + 1, self.at.epoch)
        return self.at, []

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool
    ) -> LogHead | None:
        assert keep
        self.renewals += 1
        self.at, self.moved = head_at(sequence, epoch), False
        return self.at

    async def read(self) -> None:
        raise NotImplementedError

    compact = purge_floors = read


def failover_log(log: MovingLog) -> FailoverLog:
    return FailoverLog(cast("RevocationLog", log), LoopClock(), Random(1).randbytes, RecordingAudit())


@virtual_time
async def test_standby_with_all_known_entries_is_accepted():
    log = MovingLog()
    node = failover_log(log)
    await node.head()
    log.fail_over(head_at(100))
    await node.head()
    assert log.renewals == 1


@virtual_time
async def test_log_renewed_by_another_node_is_accepted():
    log = MovingLog()
    node = failover_log(log)
    await node.head()
    log.fail_over(head_at(1_000_000, "second-log"))
    await node.head()
    assert log.renewals == 1


@virtual_time
async def test_standby_without_a_known_renewal_is_refused():
    log = MovingLog()
    node = failover_log(log)
    before = await node.head()
    log.fail_over(before)
    await node.head()
    await node.append([])
    log.fail_over(before)
    with pytest.raises(LogMovedError):
        await node.head()
    assert log.renewals == 1


@virtual_time
async def test_read_that_ends_after_an_append_does_not_hide_it():
    log = MovingLog()
    node = failover_log(log)
    log.gate = asyncio.Event()
    reading = asyncio.create_task(node.head())
    await asyncio.sleep(0)
    await node.append([])
    log.gate.set()
    await reading
    log.fail_over(head_at(100))
    with pytest.raises(LogMovedError):
        await node.head()
    assert log.renewals == 0

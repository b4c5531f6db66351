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
        self.moved: LogMovedError | None = None
        self.renewals = 0
        self.gate: asyncio.Event | None = None

    def fail_over(self, head: LogHead, *, nothing_lost: bool = True, promoted: bool = True) -> None:
        self.at, self.moved = head, LogMovedError(head, nothing_lost=nothing_lost, promoted=promoted)

    async def head(self) -> LogHead:
        if self.moved is not None:
            raise self.moved
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
        self.at, self.moved = head_at(sequence, epoch), None
        return self.at

    async def read(self) -> None:
        raise NotImplementedError

    compact = purge_floors = read


def failover_log(log: MovingLog, *, accepts_loss: bool = False) -> FailoverLog:
    return FailoverLog(
        cast("RevocationLog", log),
        LoopClock(),
        Random(1).randbytes,
        RecordingAudit(),
        accepts_loss=accepts_loss,
    )


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


@virtual_time
@pytest.mark.parametrize(
    ("accepts_loss", "promoted", "renewals"), [(True, True, 1), (True, False, 0), (False, True, 0)]
)
async def test_a_lossy_failover_is_continued_only_by_choice_and_in_the_same_cluster(
    *, accepts_loss: bool, promoted: bool, renewals: int
):
    log = MovingLog()
    node = failover_log(log, accepts_loss=accepts_loss)
    await node.head()
    log.fail_over(head_at(99), nothing_lost=False, promoted=promoted)
    if renewals:
        assert (await node.head()).epoch != "first-log"
    else:
        with pytest.raises(LogMovedError):
            await node.head()
    assert log.renewals == renewals


@virtual_time
async def test_a_standby_that_claims_to_be_complete_but_is_not_is_continued_as_lossy(
    caplog: pytest.LogCaptureFixture,
):
    log = MovingLog()
    node = failover_log(log, accepts_loss=True)
    await node.head()
    log.fail_over(head_at(99), promoted=True)
    await node.head()
    assert log.renewals == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]

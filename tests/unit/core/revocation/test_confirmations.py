"""`Confirmations` of subscribers count only for the log that the node follows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.replica import Replica
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.validations import ValidationReport, ValidationReports
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Cursor

CALLER = Caller("gateway", Rights.everything())
NOTHING = ValidationReport()


class Scene:
    """A node that follows the log "log1" up to 5, with one subscriber."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.subscribers = Subscribers(LoopClock())
        self.validations = ValidationReports(LoopClock())
        self.unavailable = False
        self.changes_over = False
        self.confirmations = Confirmations(self, self.replica, self.subscribers, self.validations)  # type: ignore[arg-type]
        self.replica.reset("log1", 5)
        self.subscribers.connect("a")

    async def head(self) -> SimpleNamespace:
        """Read the head. The node may change over to another log before the caller continues."""
        if self.unavailable:
            raise StoreUnavailableError
        head = SimpleNamespace(epoch="log1", sequence=5)
        if self.changes_over:
            self.replica.reset("log2", 7)
        return head

    async def confirm(self, report: ValidationReport = NOTHING) -> None:
        await self.confirmations.confirm(CALLER, "a", Cursor("log1", 5), 0, report)


@virtual_time
async def test_confirmation_for_the_followed_log_counts():
    scene = Scene()
    await scene.confirm()
    assert scene.subscribers.counts(5) == (1, 1)


@virtual_time
async def test_confirmation_does_not_count_when_the_node_changes_over_meanwhile():
    scene = Scene()
    scene.changes_over = True
    await scene.confirm()
    assert (scene.subscribers.epoch, scene.subscribers.counts(1)) == ("log2", (1, 0))


@virtual_time
async def test_restored_log_of_the_same_name_voids_confirmations():
    scene = Scene()
    await scene.confirm()
    scene.replica.reset("log1", 4)
    assert scene.subscribers.counts(1) == (1, 0)


@virtual_time
async def test_purged_entries_leave_confirmations_in_force():
    scene = Scene()
    await scene.confirm()
    scene.replica.skip(9)
    assert scene.subscribers.counts(5) == (1, 1)


@virtual_time
async def test_report_counts_once_per_call_that_succeeds():
    scene = Scene()
    report = ValidationReport(client_version="python/9", validated=2, refusals=[("EXPIRED", 3)])
    scene.unavailable = True
    with pytest.raises(StoreUnavailableError):
        await scene.confirm(report)
    assert not scene.validations.all()
    scene.unavailable = False
    await scene.confirm(report)
    (name, total) = next(iter(scene.validations.all().items()))
    assert name == CALLER.subscriber("a")
    assert (total.client_version, total.validated, dict(total.refusals)) == ("python/9", 2, {"EXPIRED": 3})

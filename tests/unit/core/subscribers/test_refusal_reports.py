"""Audit events of the refusals of validators: added up for a minute, and bounded."""

from __future__ import annotations

import asyncio

from tests.unit.core.node import RecordingAudit
from tests.unit.core.virtual_time import ManualClock, cancelled, virtual_time
from token_service.core.subscribers.refusal_reports import INTERVAL, MAX_NAMED, RefusalReports
from token_service.core.subscribers.validations import ValidationReport, ValidationReports


class World:
    """Reports of subscribers, and the events of them."""

    def __init__(self) -> None:
        self.audit = RecordingAudit()
        self.validations = ValidationReports(ManualClock())
        self.reports = RefusalReports(self.validations, self.audit)

    def refuse(self, subscriber: str, **refusals: int) -> None:
        self.validations.add(subscriber, "caller", ValidationReport(validated=5, refusals=refusals.items()))


@virtual_time
async def test_refusals_of_a_minute_are_one_event_by_subscriber_and_reason() -> None:
    world = World()
    task = asyncio.create_task(world.reports.run())
    world.refuse("shop", EXPIRED=2, REVOKED=1)
    world.refuse("shop", EXPIRED=1)
    world.refuse("api", INVENTED=4)
    world.refuse("", REVOKED=7)
    world.refuse("quiet")
    await asyncio.sleep(INTERVAL + 1)
    (event,) = world.audit.named("validation.refusals_reported")
    assert event.pop("actor") == "system:validators"
    assert (event["total"], event["reasons"]) == (15, {"EXPIRED": 3, "REVOKED": 8, "OTHER": 4})
    assert event["subscribers"] == {"api": {"OTHER": 4}, "shop": {"EXPIRED": 3, "REVOKED": 1}}
    assert event["other_subscribers"] == {"REVOKED": 7}
    # Without refusals there is no event. The last ones are recorded when the node stops.
    await asyncio.sleep(5 * INTERVAL)
    world.refuse("shop", REVOKED=1)
    await cancelled(task)
    assert [each["total"] for each in world.audit.named("validation.refusals_reported")] == [15, 1]


def test_an_event_names_the_subscribers_with_most_refusals() -> None:
    world = World()
    for number in range(MAX_NAMED + 3):
        world.refuse(f"s{number}", REVOKED=number + 1)
    world.reports.record()
    (event,) = world.audit.named("validation.refusals_reported")
    subscribers = event["subscribers"]
    assert isinstance(subscribers, dict)
    assert len(subscribers) == MAX_NAMED
    assert "s2" not in subscribers
    assert event["other_subscribers"] == {"REVOKED": 1 + 2 + 3}
    assert event["total"] == sum(range(1, MAX_NAMED + 4))

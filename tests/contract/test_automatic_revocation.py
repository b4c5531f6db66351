"""Automatic revocation over every backend: the walk of sessions, limits, and thresholds."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from tests.contract.builders import a_client, a_draft, a_session, digest
from token_service.core.administration.automatic import enforcer as module
from token_service.core.administration.automatic.enforcer import EnforcerSources, LimitEnforcer
from token_service.core.administration.automatic.rules import (
    AutomaticRules,
    Cause,
    Scope,
    SessionLimits,
    Threshold,
)
from token_service.core.administration.automatic.thresholds import ThresholdHandler
from token_service.core.clients.client import ClientState
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.export import members_of
from token_service.core.events.log import StoredEvent
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import verify
from token_service.core.leases import Lease
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.core.sessions import walk as walking
from token_service.core.sessions.walk import WalkFilter
from token_service.tokens.revocation import Cursor, RevocationTarget

NOW = float(int(time.time()))
"""Before any time that the database reads: the earlier of both clocks counts."""
HOUR = 3600
CLASSES = {"web": "internal", "bank": "restricted", "blog": "public"}


class StandingClock:
    """A clock that stands still at `wall`."""

    def __init__(self) -> None:
        self.wall = NOW

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return 0.0


class Recorder:
    """An `Audit` that keeps the events."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    record_alone = record


class Service:
    """What one node revokes with."""

    def __init__(self, stores: Any, rules: AutomaticRules, name: str = "node-1") -> None:
        self.stores = stores
        self.rules = rules
        self.audit = Recorder()
        self.clock = StandingClock()
        self.policies = Policies(PolicyBook(classifications=dict(CLASSES)))
        self.revision = 1
        self.enforcer = LimitEnforcer(
            EnforcerSources(
                lambda: self.rules, self.policies, lambda: self.revision, stores.walk, stores.log
            ),
            self.append,
            self.audit,
            Lease(stores.leases, "automatic-revocation", name),
            self.clock,
        )
        self.thresholds = ThresholdHandler(
            lambda: self.rules, stores.audit, self.append, self.audit, self.clock
        )

    async def append(self, drafts: Any) -> tuple[Cursor, int]:
        head, entries = await self.stores.log.append(drafts)
        return Cursor(head.epoch, head.sequence), len(entries)

    async def handle(self) -> list[StoredEvent]:
        """Handle all events of the log from its beginning, as after a crash."""
        await self.stores.events.sequence(500)
        events = list(await self.stores.events.read(0, 500))
        await self.thresholds.handle(events)
        return events


async def add(stores: Any, number: int, client_id: str = "web", **changes: Any) -> None:
    times = {"create_time": NOW - 60, "last_use_time": NOW - 60}
    ends = {"idle_expire_time": NOW + 9 * HOUR, "absolute_expire_time": NOW + 9 * HOUR}
    session = a_session(id=UUID(int=number), client_id=client_id, **{**times, **ends, **changes})
    await stores.sessions.create(session, None)


async def revoked(stores: Any) -> dict[int, dict[str, Any]]:
    """Return the fields of the revocation events of sessions."""
    rows = await stores.audit.list(AuditFilter(actions=("revoked",)), limit=200, after=None)
    return {UUID(row.session_id).int: members_of(row)["fields"] for row in rows if row.session_id}


async def state(stores: Any, number: int) -> bool:
    session = await stores.sessions.get(UUID(int=number))
    return session.revoke_time is None and session.floor <= session.revision


async def walk(stores: Any, where: WalkFilter, limit: int = 2) -> list[int]:
    found, after = [], None
    while True:
        part = await stores.walk.part(where, live_at=NOW, limit=limit, after=after)
        assert len(part.sessions) <= limit
        found += [each.session_id.int for each in part.sessions]
        after = part.next
        if after is None:
            return found


async def test_a_walk_finds_each_live_session_that_meets_a_condition_once(stores):
    for number in range(1, 6):
        await add(stores, number, create_time=NOW - 100 * number, last_use_time=NOW - 10 * number)
    await add(stores, 6, create_time=NOW - 900, idle_expire_time=NOW - 1)
    await add(stores, 7, create_time=NOW - 900, last_use_time=NOW - 900, classification="internal")
    await stores.log.append([a_draft(RevocationTarget.SESSION, UUID(int=5))])
    assert await walk(stores, WalkFilter(created_before=NOW - 300)) == [4, 7]
    assert await walk(stores, WalkFilter(used_before=NOW - 30)) == [4, 7]
    assert await walk(stores, WalkFilter(created_before=NOW - 350, used_before=NOW - 25)) == [3, 4, 7]
    assert await walk(stores, WalkFilter(classified=True)) == [7]
    assert await walk(stores, WalkFilter()) == []
    part = await stores.walk.part(WalkFilter(classified=True), live_at=NOW, limit=9, after=None)
    (session,) = part.sessions
    assert (session.client_id, session.classification, session.is_personal) == ("web", "internal", False)
    assert session.create_time == pytest.approx(NOW - 900)


async def test_sessions_past_the_limits_of_their_classification_are_revoked_with_the_cause(stores):
    limits = {
        "internal": SessionLimits(max_session_age=HOUR, max_inactivity=HOUR),
        "restricted": SessionLimits(max_inactivity=600),
    }
    service = Service(stores, AutomaticRules(limits=limits, sessions_per_minute=60_000))
    await add(stores, 1, create_time=NOW - HOUR - 1)
    await add(stores, 2, create_time=NOW - HOUR + 60)
    await add(stores, 3, "bank", create_time=NOW - 8 * HOUR, last_use_time=NOW - 601)
    await add(stores, 4, "bank", create_time=NOW - 8 * HOUR, last_use_time=NOW - 540)
    await add(stores, 5, "blog", create_time=NOW - 8 * HOUR, last_use_time=NOW - 8 * HOUR)
    personal: dict[str, Any] = {"personal_hash": digest("p"), "refresh_hash": None}
    await add(stores, 6, create_time=NOW - 8 * HOUR, last_use_time=NOW - 8 * HOUR, **personal)
    assert await service.enforcer.enforce() == {Cause.AGE: 1, Cause.INACTIVITY: 1}
    found = await revoked(stores)
    for fields in found.values():
        assert fields.pop("cursor")
    assert found == {
        1: {"cause": "age", "rule": "classifications.internal", "limit": HOUR, "measured": HOUR + 1},
        3: {"cause": "inactivity", "rule": "classifications.restricted", "limit": 600, "measured": 601},
    }
    assert [await state(stores, number) for number in range(1, 7)] == [False, True, False, True, True, True]
    (row, _) = await stores.audit.list(AuditFilter(actions=("revoked",)), limit=9, after=None)
    assert (row.actor_kind, row.actor_name) == ("system", "automatic-revocation")
    assert "automatic: " in row.comment
    # Another walk finds nothing more, and records nothing more.
    assert await service.enforcer.enforce() == {}
    assert len(service.audit.events) == 2
    assert (await verify(stores.audit)).findings == []


async def test_a_clock_that_is_ahead_ends_no_session(stores):
    limits = {"internal": SessionLimits(max_session_age=HOUR)}
    service = Service(stores, AutomaticRules(limits=limits))
    await add(stores, 1)
    service.clock.wall += 2 * HOUR
    assert await service.enforcer.enforce() == {}
    assert await state(stores, 1)


async def test_a_client_that_gets_a_stricter_classification_loses_its_earlier_sessions(stores):
    changing = SessionLimits(on_classification_change=True)
    limits = {"restricted": changing, "public": changing}
    service = Service(stores, AutomaticRules(limits=limits, sessions_per_minute=60_000))
    await add(stores, 1, classification="internal")
    await add(stores, 2)  # a node of an earlier version began it
    await add(stores, 3, "app", classification="internal")
    await add(stores, 4, classification="restricted")
    assert await service.enforcer.enforce() == {}
    book = PolicyBook(classifications={**CLASSES, "web": "restricted", "app": "public"})
    service.policies.replace_file(book)
    assert await service.enforcer.enforce() == {Cause.CLASSIFICATION: 1}
    found = await revoked(stores)
    assert {**found[1], "cursor": ""} == {
        "cause": "classification",
        "rule": "classifications.restricted",
        "limit": "internal",
        "measured": "restricted",
        "cursor": "",
    }
    assert set(found) == {1}  # public is less strict than internal
    # Without a change of policies or clients, classifications are not looked at again.
    await add(stores, 5, classification="internal")
    assert await service.enforcer.enforce() == {}
    service.revision += 1
    assert await service.enforcer.enforce() == {Cause.CLASSIFICATION: 1}


async def test_a_dry_run_and_a_node_without_the_lease_revoke_nothing(pair):
    stores, other = pair
    limits = {"internal": SessionLimits(max_session_age=HOUR)}
    await add(stores, 1, create_time=NOW - 2 * HOUR)
    dry = Service(stores, AutomaticRules(limits=limits, dry_run=True))
    assert await dry.enforcer.enforce() == {Cause.AGE: 1}
    assert await state(stores, 1)
    second = Service(other, AutomaticRules(limits=limits), "node-2")
    assert await second.enforcer.enforce() == {}
    assert await state(stores, 1)
    dry.rules = AutomaticRules(limits=limits)
    assert await dry.enforcer.enforce() == {Cause.AGE: 1}


async def test_two_nodes_that_walk_at_once_revoke_each_session_once(pair, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)
    stores, other = pair
    rules = AutomaticRules(
        limits={"internal": SessionLimits(max_session_age=HOUR)}, sessions_per_minute=60_000
    )
    for number in range(1, 11):
        await add(stores, number, create_time=NOW - 2 * HOUR)
    one, two = Service(stores, rules), Service(other, rules, "node-1")  # the same holder: both have the lease
    await one.enforcer.enforce()
    await two.enforcer.enforce()
    assert set(await revoked(stores)) == set(range(1, 11))
    head = await stores.log.head()
    assert head.sequence == 10


async def test_the_walk_continues_after_rows_that_meet_no_condition(stores, monkeypatch):
    if hasattr(stores, "pool"):
        monkeypatch.setattr("token_service.stores.sql.session_walk.MAX_WALKED", 2)
    else:
        monkeypatch.setattr("tests.support.memory_selections.MAX_WALKED", 2)
    assert walking.MAX_WALKED == 5000
    for number in range(1, 8):
        await add(stores, number, create_time=NOW - (900 if number in {1, 7} else 1))
    assert await walk(stores, WalkFilter(created_before=NOW - 300)) == [1, 7]


REUSED = Action.REFRESH_TOKEN_REUSED


async def happen(
    stores: Any, number: int, ago: float, subject: str = "alice", client_id: str = "web"
) -> None:
    target = Target("refresh_token", "", subject, str(UUID(int=number)), client_id)
    event = AuditEvent(action=REUSED, actor=Actor("caller", "x"), target=target, time=NOW - ago)
    await stores.audit.append([event])


def threshold(**changes: Any) -> AutomaticRules:
    values: dict[str, Any] = {
        "name": "stolen", "actions": frozenset({REUSED.value}), "count": 3, "window": 600,
        "per": Scope.SUBJECT, "revoke": Scope.SUBJECT,
    }  # fmt: skip
    rule = Threshold(**{**values, **changes})
    return AutomaticRules(thresholds={rule.name: rule})


async def acts(stores: Any) -> list[AuditRow]:
    """Return what automatic revocation did, the oldest first."""
    rows = await stores.audit.list(AuditFilter(actor="automatic-revocation"), limit=99, after=None)
    return sorted(rows, key=lambda row: row.position)


async def test_a_subject_is_revoked_when_its_events_reach_the_count_within_the_window(stores):
    service = Service(stores, threshold())
    await add(stores, 9)
    await happen(stores, 1, 1000)
    await happen(stores, 2, 500)
    await happen(stores, 3, 300, subject="bob")
    await happen(stores, 4, 300)
    await service.handle()
    assert await acts(stores) == []  # two of alice within ten minutes
    await happen(stores, 5, 100)
    events = await service.handle()
    (row,) = await acts(stores)
    fields = members_of(row)["fields"]
    assert (row.action, row.target_kind, row.subject) == ("revoked", "subject", "alice")
    assert fields.pop("cursor")
    assert fields == {
        "cause": "threshold",
        "rule": "thresholds.stolen",
        "limit": 3,
        "window": 600,
        "measured": 3,
        "event_id": events[-1].id,
        "event_time": round((NOW - 100) * 1_000_000),
    }
    assert not await state(stores, 9)


async def test_events_that_are_handled_again_revoke_nothing_again(stores):
    """The process was killed after the revocation and before it noted its place in the log."""
    service = Service(stores, threshold())
    for number in range(3):
        await happen(stores, number, 10 - number)
    await service.handle()
    await Service(stores, service.rules).handle()
    assert len(await acts(stores)) == 1
    # The count begins again after the revocation.
    for number in range(2):
        await happen(stores, number, 5 - number)
    await service.handle()
    assert len(await acts(stores)) == 1
    await happen(stores, 9, 1)
    await service.handle()
    assert len(await acts(stores)) == 2


async def test_events_handled_one_by_one_late_reach_the_same_count(stores):
    """A backlog is handled after all of its events happened, also some long after the count was reached."""
    service = Service(stores, threshold(window=60))
    for ago in (1000, 990, 980, 10):
        await happen(stores, 1, ago)
    await stores.events.sequence(500)
    for event in await stores.events.read(0, 500):
        await service.thresholds.handle([event])
    (row,) = await acts(stores)
    assert members_of(row)["fields"]["event_time"] == round((NOW - 980) * 1_000_000)


async def test_an_earlier_commit_with_a_later_time_counts(stores):
    """The clock of one node is ahead of the other's by two seconds."""
    service = Service(stores, threshold(count=2))
    for ago in (8, 10):
        await happen(stores, 1, ago)
        await stores.events.sequence(500)
        (event,) = (await stores.events.read(0, 500))[-1:]
        await service.thresholds.handle([event])
    assert len(await acts(stores)) == 1


@pytest.mark.parametrize(("per", "count"), [(Scope.SESSION, 1), (Scope.CLIENT, 3)])
async def test_a_session_is_revoked_by_its_own_events_or_by_those_of_its_client(stores, per, count):
    await add(stores, 1)
    await add(stores, 2)
    service = Service(stores, threshold(per=per, count=count, revoke=Scope.SESSION))
    await happen(stores, 2, 30, subject="bob")
    await happen(stores, 2, 20)
    await happen(stores, 1, 10)
    await service.handle()
    assert [await state(stores, number) for number in (1, 2)] == [False, per is Scope.CLIENT]
    before = len(await acts(stores))
    await service.handle()
    assert len(await acts(stores)) == before


async def test_a_client_is_disabled_with_the_revocation_of_its_tokens(stores):
    await stores.clients.create(a_client("web"))
    await add(stores, 1)
    service = Service(stores, threshold(per=Scope.CLIENT, revoke=Scope.CLIENT))
    for number in range(3):
        await happen(stores, 7, number + 1, subject=f"user-{number}")
    await service.handle()
    assert (await stores.clients.get("web")).state is ClientState.DISABLED
    assert not await state(stores, 1)
    (row,) = await acts(stores)
    assert (row.action, row.client_id) == ("client.disabled", "web")
    assert members_of(row)["fields"]["cause"] == "threshold"
    await service.handle()
    assert len(await acts(stores)) == 1


async def test_a_dry_run_and_an_event_without_the_target_revoke_nothing(stores, caplog):
    await add(stores, 1)
    with caplog.at_level("INFO"):
        for rules in (threshold(count=1, dry_run=True), threshold(count=1, per=Scope.CLIENT)):
            service = Service(stores, rules)
            await happen(stores, 1, 5, subject="alice" if rules.thresholds["stolen"].dry_run else "")
            await stores.events.sequence(500)
            await service.thresholds.handle((await stores.events.read(0, 500))[-1:])
    assert await acts(stores) == []
    assert await state(stores, 1)
    assert [
        record.message.partition(" is ")[2][:9] for record in caplog.records if "threshold" in record.message
    ] == ["a dry run", "reached, "]


async def test_what_automatic_revocation_did_is_not_counted(stores):
    rules = threshold(actions=frozenset({"revoked", REUSED.value}), count=2)
    service = Service(stores, rules)
    for number in range(2):
        await happen(stores, 1, number + 1)
    for _ in range(3):
        await service.handle()
    assert len(await acts(stores)) == 1


def test_causes_have_stable_names():
    assert Counter(each.value for each in Cause) == {
        "age": 1, "inactivity": 1, "classification": 1, "threshold": 1
    }  # fmt: skip

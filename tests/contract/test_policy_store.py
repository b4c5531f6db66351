"""The contract of `PolicyStore`, on every backend."""

from __future__ import annotations

import asyncio

from tests.contract.builders import NOW, a_draft
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditFilter
from token_service.core.overrides.store import StoredOverrides
from token_service.tokens.revocation import RevocationTarget

EVENT = AuditEvent(
    action=Action.POLICIES_CHANGED,
    actor=Actor("caller", "ops"),
    target=Target("policies"),
    fields={"before": {"internal.rotate": None}, "after": {"internal.rotate": "false"}},
)


async def test_a_fresh_database_has_no_overrides(stores):
    assert await stores.policies.load() == StoredOverrides()
    assert (await stores.log.head()).policies_revision == 0


async def test_another_node_sees_a_change_with_its_revision_time_and_author(pair):
    first, second = pair
    assert await first.policies.change({"internal.rotate": "false"}, revision=0, now=NOW + 0.25, by="ops")
    assert await second.policies.load() == StoredOverrides(1, {"internal.rotate": "false"}, NOW + 0.25, "ops")
    assert (await second.log.head()).policies_revision == 1


async def test_a_change_replaces_resets_and_keeps(stores):
    await stores.policies.change({"a.x": "1", "a.y": "2", "b.z": "3"}, revision=0, now=NOW, by="ops")
    assert await stores.policies.change({"a.x": "9", "b.z": None}, revision=1, now=NOW + 1, by="other")
    assert await stores.policies.load() == StoredOverrides(2, {"a.x": "9", "a.y": "2"}, NOW + 1, "other")


async def test_the_author_of_a_reset_of_everything_is_known(stores):
    await stores.policies.change({"a.x": "1"}, revision=0, now=NOW, by="ops")
    await stores.policies.change({"a.x": None}, revision=1, now=NOW + 1, by="other")
    assert await stores.policies.load() == StoredOverrides(2, {}, NOW + 1, "other")


async def test_a_change_of_another_revision_changes_nothing(stores):
    await stores.policies.change({"a.x": "1"}, revision=0, now=NOW, by="ops")
    for revision in (0, 2):
        assert not await stores.policies.change(
            {"a.x": "2"}, revision=revision, now=NOW, by="late", events=[EVENT]
        )
    assert await stores.policies.load() == StoredOverrides(1, {"a.x": "1"}, NOW, "ops")
    assert await stores.audit.list(AuditFilter(), limit=9, after=None) == []


async def test_one_of_two_concurrent_changes_of_a_revision_counts(pair):
    first, second = pair
    done = await asyncio.gather(
        first.policies.change({"a.x": "1"}, revision=0, now=NOW, by="first"),
        second.policies.change({"a.x": "2"}, revision=0, now=NOW, by="second"),
    )
    assert sorted(done) == [False, True]
    stored = await first.policies.load()
    assert (stored.revision, stored.updated_by) == (1, "first" if done[0] else "second")


async def test_the_event_is_in_the_trail_with_the_values_before_and_after(stores):
    await stores.policies.change({"internal.rotate": "false"}, revision=0, now=NOW, by="ops", events=[EVENT])
    (row,) = await stores.audit.list(AuditFilter(), limit=9, after=None)
    assert (row.action, row.category, row.actor_name) == ("policies.changed", "administrative", "ops")
    assert row.fields == '{"before":{"internal.rotate":null},"after":{"internal.rotate":"false"}}'


async def test_an_append_keeps_the_revision(stores):
    await stores.policies.change({"a.x": "1"}, revision=0, now=NOW, by="ops")
    head, _ = await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
    assert (head.sequence, head.policies_revision) == (1, 1)
    assert (await stores.log.head()).policies_revision == 1

"""This node's copy of the overrides follows the revision in the log head."""

from __future__ import annotations

from tests.support.memory_stores import MemoryStores
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.overrides.store import StoredOverrides
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook, parse_policy_book

NOW = 1_700_000_000.0


class Scene:
    def __init__(self) -> None:
        self.store = MemoryStores().policies
        self.policies = Policies(PolicyBook())
        self.overrides = OverrideRegistry(self.store, self.policies)
        self.changes = 0
        self.overrides.on_change(self.changed)

    def changed(self) -> None:
        self.changes += 1

    async def change(self, **values: str | None) -> None:
        stored = await self.store.load()
        changes = {f"internal.{name}": value for name, value in values.items()}
        assert await self.store.change(changes, revision=stored.revision, now=NOW, by="ops")


async def test_a_change_is_in_force_after_the_head_shows_its_revision():
    scene = Scene()
    await scene.overrides.refresh(revision=0)
    await scene.change(rotate="false")
    await scene.overrides.refresh(revision=0)
    assert scene.policies.of("web").rotate is True
    await scene.overrides.refresh(revision=1)
    assert (scene.policies.of("web").rotate, scene.overrides.revision, scene.changes) == (False, 1, 1)


async def test_an_older_head_undoes_nothing():
    scene = Scene()
    await scene.change(rotate="false")
    await scene.overrides.refresh(revision=1)
    await scene.overrides.refresh(revision=0)
    assert (scene.policies.of("web").rotate, scene.overrides.revision) == (False, 1)


async def test_a_restored_database_brings_back_its_overrides():
    scene = Scene()
    await scene.change(rotate="false")
    await scene.change(rotate=None, grace_period='"5s"')
    await scene.overrides.refresh()
    scene.store._state.overrides = StoredOverrides(1, {"internal.rotate": "false"}, NOW, "ops")
    await scene.overrides.refresh(revision=1)
    policy = scene.policies.of("web")
    assert (policy.rotate, policy.grace_period, scene.overrides.revision) == (False, 10, 1)


async def test_overrides_that_contradict_the_file_are_named_until_a_file_allows_them(caplog):
    scene = Scene()
    await scene.change(max_retries="0")
    await scene.overrides.refresh()
    assert scene.policies.of("web").max_retries == 100
    assert "internal.max_retries: 0 with a grace_period of 10 s" in scene.overrides.problem
    assert "the policies in force stay unchanged" in caplog.text
    scene.policies.replace_file(parse_policy_book({"classifications": {"internal": {"grace_period": 0}}}))
    scene.overrides.file_changed()
    assert (scene.policies.of("web").max_retries, scene.overrides.problem) == (0, "")


async def test_a_reset_ends_the_contradiction():
    scene = Scene()
    await scene.change(max_retries="0", rotate="false")
    await scene.overrides.refresh()
    await scene.change(max_retries=None)
    await scene.overrides.refresh()
    assert (scene.policies.of("web").rotate, scene.overrides.problem) == (False, "")

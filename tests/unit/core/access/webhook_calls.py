"""A call of each use case about webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase

if TYPE_CHECKING:
    from tests.unit.core.access.test_gate import Scene

URL = {"url": "https://hooks.example/"}


async def make_webhook(node: Any) -> None:
    """Create the webhook that the other calls name."""
    await node.core.webhooks.administration.create(Caller.system(), URL, 0.0)


async def _id(scene: Scene) -> str:
    entries = await scene.node.stores.webhooks.list()
    return str(entries[0].webhook.webhook_id)


async def create(scene: Scene, caller: Caller) -> None:
    await scene.node.core.webhooks.administration.create(caller, URL, scene.now)


async def get(scene: Scene, caller: Caller) -> None:
    await scene.node.core.webhooks.administration.get(caller, await _id(scene))


async def list_(scene: Scene, caller: Caller) -> None:
    assert len(await scene.node.core.webhooks.administration.list(caller)) == 1


async def update(scene: Scene, caller: Caller) -> None:
    changes = {"disabled": True}
    await scene.node.core.webhooks.administration.update(caller, await _id(scene), changes, scene.now)


async def rotate_secret(scene: Scene, caller: Caller) -> None:
    await scene.node.core.webhooks.administration.rotate_secret(caller, await _id(scene), scene.now)


async def delete(scene: Scene, caller: Caller) -> None:
    await scene.node.core.webhooks.administration.delete(caller, await _id(scene))


async def test(scene: Scene, caller: Caller) -> None:
    attempt = await scene.node.core.webhooks.administration.test(caller, await _id(scene), scene.now)
    assert attempt.error == "this process sends no webhooks"


async def dead_letters(scene: Scene, caller: Caller) -> None:
    page = await scene.node.core.webhooks.events.dead_letters(caller, await _id(scene), 0, "")
    assert page.letters == []


async def redeliver(scene: Scene, caller: Caller) -> None:
    assert await scene.node.core.webhooks.events.redeliver(caller, await _id(scene), []) == 0


async def replay(scene: Scene, caller: Caller) -> None:
    await scene.node.core.webhooks.events.replay(caller, await _id(scene), time=0.0)


CALLS = [
    (UseCase.CREATE_WEBHOOK, create),
    (UseCase.GET_WEBHOOK, get),
    (UseCase.LIST_WEBHOOKS, list_),
    (UseCase.UPDATE_WEBHOOK, update),
    (UseCase.ROTATE_WEBHOOK_SECRET, rotate_secret),
    (UseCase.DELETE_WEBHOOK, delete),
    (UseCase.LIST_DEAD_LETTERS, dead_letters),
    (UseCase.REDELIVER_DEAD_LETTERS, redeliver),
    (UseCase.REPLAY_WEBHOOK, replay),
    (UseCase.TEST_WEBHOOK, test),
]
CHANGING = {
    UseCase.CREATE_WEBHOOK,
    UseCase.UPDATE_WEBHOOK,
    UseCase.ROTATE_WEBHOOK_SECRET,
    UseCase.DELETE_WEBHOOK,
    UseCase.REPLAY_WEBHOOK,
}

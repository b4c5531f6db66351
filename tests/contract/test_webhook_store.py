"""The contract of `WebhookStore`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.contract.builders import NOW
from tests.contract.test_event_log import a_change
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.webhooks.webhook import DeadLetter, DeliveryState, SealedSecret, Webhook

OLD = SealedSecret(wrapped=b"\x00old", wrapping_key_id="kek-1", expire_time=NOW + 60)
CURRENT = SealedSecret(wrapped=b"\xffnew", wrapping_key_id="kek-2")


def a_webhook(webhook_id="wh_1", **settings):
    values = {"url": "https://hooks.example/x", "create_time": NOW, "update_time": NOW, "revision": 1}
    return Webhook(webhook_id=webhook_id, **{"secrets": (CURRENT,), **values, **settings})


def a_letter(sequence, **values):
    known = {"chain_id": "chain", "position": sequence, "type": "revoked", "attempts": 8, "last_error": "500"}
    return DeadLetter(**{"webhook_id": "wh_1", "sequence": sequence, "create_time": NOW, **known, **values})


def an_event(action):
    return AuditEvent(action=action, actor=Actor("operator", "root@a"), target=Target("webhook", "wh_1"))


async def actions(stores):
    """Return the actions of all events in the log."""
    while await stores.events.sequence(100):
        pass
    return [event.type for event in await stores.events.read(0, 100)]


async def test_webhook_is_kept_as_it_was_created_at_the_end_of_the_log(stores):
    await stores.audit.append([a_change(1), a_change(2)])
    await stores.events.sequence(10)
    webhook = a_webhook(
        description="Prod",
        types=("revoked", "client.created"),
        categories=("security",),
        client_id="web",
        disabled=True,
        disable_reason="status 410",
        secrets=(OLD, CURRENT),
    )
    created = await stores.webhooks.create(webhook, 5, [an_event(Action.WEBHOOK_CREATED)])
    assert created.webhook == webhook
    assert (created.state, created.place, created.dead_letters) == (DeliveryState(), 2, 0)
    assert await stores.webhooks.get("wh_1") == created
    assert await stores.webhooks.get("wh_2") is None
    assert await stores.events.position("webhook:wh_1") == 2
    assert (await actions(stores))[2:] == ["webhook.created"]


async def test_webhooks_are_listed_oldest_first_and_limited(pair):
    one, other = pair
    created = await asyncio.gather(
        *(
            stores.webhooks.create(a_webhook(f"wh_{number}", create_time=NOW - number), 3)
            for number, stores in enumerate((one, other, one, other, one))
        )
    )
    assert sum(each is not None for each in created) == 3
    listed = [each.webhook for each in await other.webhooks.list()]
    assert len(listed) == 3
    assert listed == sorted(listed, key=lambda each: each.create_time)


async def test_change_needs_the_revision_and_writes_its_event(stores):
    await stores.webhooks.create(a_webhook(secrets=(OLD, CURRENT)), 5)
    changed = a_webhook(url="https://hooks.example/y", types=("revoked",), secrets=(CURRENT,))
    saved = await stores.webhooks.save(changed, [an_event(Action.WEBHOOK_UPDATED)])
    assert saved.webhook == replace(changed, revision=2)
    assert await stores.webhooks.save(changed, [an_event(Action.WEBHOOK_UPDATED)]) is None
    assert (await stores.webhooks.get("wh_1")).webhook.url == "https://hooks.example/y"
    assert await stores.webhooks.save(a_webhook("wh_2")) is None
    assert await actions(stores) == ["webhook.updated"]


async def test_only_one_of_concurrent_changes_is_saved(pair):
    await pair[0].webhooks.create(a_webhook(), 5)
    saved = await asyncio.gather(
        *(stores.webhooks.save(a_webhook(description=str(number))) for number, stores in enumerate(pair))
    )
    (winner,) = [each for each in saved if each is not None]
    assert (await pair[0].webhooks.get("wh_1")).webhook == winner.webhook


async def test_state_is_noted_beside_the_settings_and_reset(stores):
    await stores.webhooks.create(a_webhook(), 5)
    state = DeliveryState(
        sequence=7,
        attempts=3,
        due_time=NOW + 9,
        failing_since=NOW - 5,
        last_error="no answer",
        last_success_time=NOW - 50,
    )
    await stores.webhooks.note("wh_1", state)
    await stores.webhooks.note("wh_2", state)
    assert await stores.webhooks.get("wh_2") is None
    entry = await stores.webhooks.save(a_webhook(description="x"))
    assert (entry.state, entry.webhook.revision) == (state, 2)
    entry = await stores.webhooks.save(a_webhook(revision=2), reset=True)
    assert entry.state == DeliveryState(last_success_time=NOW - 50)


async def test_place_moves_to_any_sequence(stores):
    await stores.webhooks.create(a_webhook(), 5)
    assert await stores.events.advance("webhook:wh_1", 0, 9)
    assert await stores.webhooks.move("wh_1", 4, [an_event(Action.WEBHOOK_UPDATED)])
    assert (await stores.webhooks.get("wh_1")).place == 4
    assert not await stores.events.advance("webhook:wh_1", 9, 10)
    assert not await stores.webhooks.move("wh_2", 4, [an_event(Action.WEBHOOK_UPDATED)])
    assert await actions(stores) == ["webhook.updated"]


async def test_deleted_webhook_leaves_nothing(stores):
    await stores.webhooks.create(a_webhook(), 5)
    await stores.webhooks.create(a_webhook("wh_2"), 5)
    for webhook_id in ("wh_1", "wh_2"):
        await stores.webhooks.bury(a_letter(3, webhook_id=webhook_id), 10)
    assert not await stores.webhooks.delete("wh_1", 2)
    assert await stores.webhooks.delete("wh_1", 1, [an_event(Action.WEBHOOK_DELETED)])
    assert not await stores.webhooks.delete("wh_1", 1)
    assert await stores.webhooks.get("wh_1") is None
    assert await stores.webhooks.letters("wh_1", limit=10) == []
    assert await stores.events.positions() == {"webhook:wh_2": 0}
    assert (await stores.webhooks.get("wh_2")).dead_letters == 1
    assert await actions(stores) == ["webhook.deleted"]


async def test_dead_letters_are_bounded_and_listed_in_order(stores):
    await stores.webhooks.create(a_webhook(), 5)
    for sequence in (5, 2, 9):
        assert await stores.webhooks.bury(a_letter(sequence), 3) == 0
    assert await stores.webhooks.bury(a_letter(9, attempts=9), 3) == 0
    assert await stores.webhooks.bury(a_letter(7), 3) == 1
    letters = await stores.webhooks.letters("wh_1", limit=10)
    assert letters == [a_letter(5), a_letter(7), a_letter(9, attempts=9)]
    assert await stores.webhooks.letters("wh_1", limit=1, after=5) == [a_letter(7)]
    assert (await stores.webhooks.get("wh_1")).dead_letters == 3


async def test_redeliveries_are_requested_and_settled(stores):
    await stores.webhooks.create(a_webhook(), 5)
    for sequence in (1, 2, 3):
        await stores.webhooks.bury(a_letter(sequence), 10)
    assert await stores.webhooks.request("wh_1", [("chain", 2), ("chain", 9), ("other", 1)]) == 1
    (wanted,) = await stores.webhooks.letters("wh_1", limit=10, requested=True)
    assert wanted == a_letter(2, requested=True)
    await stores.webhooks.settle(wanted, "refused")
    assert await stores.webhooks.letters("wh_1", limit=10, after=1) == [
        a_letter(2, attempts=9, last_error="refused"),
        a_letter(3),
    ]
    assert await stores.webhooks.request("wh_1", []) == 3
    first, *_ = await stores.webhooks.letters("wh_1", limit=10, requested=True)
    await stores.webhooks.settle(first, None)
    await stores.webhooks.settle(first, None)
    assert [each.sequence for each in await stores.webhooks.letters("wh_1", limit=10)] == [2, 3]


async def test_old_dead_letters_are_purged(stores):
    await stores.webhooks.create(a_webhook(), 5)
    await stores.webhooks.bury(a_letter(1, create_time=NOW - 1), 10)
    await stores.webhooks.bury(a_letter(2), 10)
    assert await stores.webhooks.purge(NOW) == 1
    assert await stores.webhooks.letters("wh_1", limit=10) == [a_letter(2)]


async def test_place_before_a_time_is_found(stores):
    await stores.audit.append([a_change(1), a_change(2)])
    await stores.events.sequence(10)
    assert await stores.events.before(1.0) == 0
    assert await stores.events.before(1e10) == 2


@pytest.mark.parametrize("column", ["types", "categories"])
async def test_damaged_row_is_a_disabled_webhook_and_leaves_the_others_readable(sql_backend, column, caplog):
    async with sql_backend.open() as stores:
        name = f"wh_{uuid4()}"  # the log names a row once in a process
        await stores.webhooks.create(a_webhook(name), 5, [])
        other = await stores.webhooks.create(a_webhook("wh_2", create_time=NOW + 1), 5, [])
        async with stores._database.engine.begin() as connection:
            await connection.exec_driver_sql(
                f"UPDATE webhooks SET {column} = '{{' WHERE webhook_id = '{name}'"
            )
        await stores.webhooks.list()
        damaged, readable = await stores.webhooks.list()
        assert readable == other
        assert damaged.webhook.disabled
        assert damaged.webhook.disable_reason == "its row in the database can't be read"
        assert caplog.text.count(f"webhook {name} is treated as disabled") == 1
        assert await stores.webhooks.delete(name, 1)

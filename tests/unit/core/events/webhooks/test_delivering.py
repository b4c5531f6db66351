"""Deliveries to webhooks, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from tests.unit.core.events.webhooks.site import site
from tests.unit.core.virtual_time import virtual_time
from token_service.core.events.log import StoredEvent
from token_service.core.events.webhooks import delivering, fleet, schedule
from token_service.core.events.webhooks.delivering import LEASE_TIME
from token_service.core.events.webhooks.payload import payload_of
from token_service.core.events.webhooks.sending import WebhookAnswer
from token_service.core.events.webhooks.webhook import DeadLetter
from token_service.errors import StoreUnavailableError

HOUR = 3600


@pytest.fixture
def short_day(monkeypatch: pytest.MonkeyPatch) -> float:
    """Make the time after which a failing webhook is disabled an hour, which takes a virtual loop less time."""
    assert schedule.DISABLE_AFTER == 24 * HOUR
    monkeypatch.setattr(delivering, "DISABLE_AFTER", float(HOUR))
    return HOUR


@virtual_time
async def test_events_are_delivered_once_in_order_by_one_node() -> None:
    async with site("a", "b") as found:
        receiver = found.receiver("shop")
        await found.create("shop")
        found.change(1, 250)
        await asyncio.sleep(20)
        found.change(251, 252)
        await asyncio.sleep(10)
        assert receiver.taken == [f"c-{number}" for number in range(1, 253)]
        assert found.counted == ["delivered"] * 252
        entry = await found.entry("shop")
        assert (entry.place, entry.state.failing_since) == (252, None)
        assert len({headers["webhook-id"] for headers in receiver.headers}) == 252


@virtual_time
async def test_only_matching_events_are_sent_and_the_place_passes_the_others() -> None:
    async with site("a") as found:
        receiver, other = found.receiver("shop"), found.receiver("none")
        await found.create("shop", client_id="")
        await found.create("none", types=("revoked",))
        found.change(1, 5)
        await asyncio.sleep(10)
        assert (len(receiver.taken), other.attempts) == (5, [])
        assert (await found.entry("none")).place == 5


@virtual_time
async def test_failed_attempts_are_repeated_in_order_with_growing_pauses() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda number: (500, 0, 200)[number - 1] if number < 4 else 200)
        await found.create("shop")
        found.change(1, 2)
        await asyncio.sleep(60)
        assert receiver.taken == ["c-1", "c-2"]
        assert receiver.times == [0, 10, 40, 40]
        assert len({headers["webhook-id"] for headers in receiver.headers[:3]}) == 1
        assert found.counted == ["failed", "failed", "delivered", "delivered"]


@virtual_time
async def test_retry_after_prolongs_a_pause_but_not_beyond_the_span() -> None:
    asked = {1: "25", 2: "9999"}
    async with site("a") as found:
        receiver = found.receiver(
            "shop",
            lambda number: WebhookAnswer(429, asked[number]) if number in asked else WebhookAnswer(200),
        )
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(100)
        assert receiver.times == [0, 25, 65]


@virtual_time
async def test_event_that_is_never_taken_becomes_a_dead_letter_and_the_next_goes_on() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda number: 500 if number <= 3 else 200)
        await found.create("shop")
        found.change(1, 2)
        await asyncio.sleep(60)
        assert [name for _, name in receiver.attempts] == ["c-1", "c-1", "c-1", "c-2"]
        assert found.counted == ["failed", "failed", "dead_letter", "delivered"]
        (letter,) = await found.stores.webhooks.letters("shop", limit=9)
        assert (letter.sequence, letter.attempts) == (1, 3)
        assert letter.last_error == "the receiver answered with status 500"


@virtual_time
async def test_dead_letter_is_sent_once_more_for_each_request() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda number: 500 if number <= 4 else 200)
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(60)
        assert len(receiver.attempts) == 3
        await found.stores.webhooks.request("shop", [])
        await asyncio.sleep(60)
        (letter,) = await found.stores.webhooks.letters("shop", limit=9)
        assert (len(receiver.attempts), letter.attempts, letter.requested) == (4, 4, False)
        await found.stores.webhooks.request("shop", [(letter.chain_id, letter.position)])
        await asyncio.sleep(10)
        assert await found.stores.webhooks.letters("shop", limit=9) == []
        assert receiver.taken == ["c-1"]
        assert receiver.headers[-1]["webhook-id"] == receiver.headers[0]["webhook-id"] == letter.event_id


@virtual_time
async def test_attempts_survive_a_restart() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda _: 500)
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(15)
        assert len(receiver.attempts) == 2
        await found.stop("a")
        found.start("b")
        await asyncio.sleep(60)
        assert receiver.times == [0, 10, 40]
        assert (await found.entry("shop")).dead_letters == 1


@virtual_time
async def test_hanging_webhook_delays_no_other() -> None:
    async with site("a") as found:
        slow, fast = found.receiver("slow"), found.receiver("fast")
        slow.hangs = True
        await found.create("slow")
        await found.create("fast")
        found.change(1, 30)
        await asyncio.sleep(10)
        assert (len(slow.attempts), len(fast.taken)) == (1, 30)
        delivery, _ = found.nodes["a"]
        assert delivery.events_behind == 30
        assert 5 < delivery.seconds_behind <= 10


@virtual_time
async def test_another_node_takes_over_and_repeats_only_unnoted_events() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop")
        await found.create("shop")
        found.change(1, 3)
        await asyncio.sleep(5)
        receiver.hangs = True
        found.change(4, 4)
        await asyncio.sleep(5)
        for task in found.nodes["a"][1]:  # killed: it gives no lease back
            task.cancel()
        await asyncio.sleep(1)
        await found.stores.leases.acquire("webhook:shop", "a", LEASE_TIME)
        del found.nodes["a"]
        receiver.hangs = False
        found.start("b")
        await asyncio.sleep(LEASE_TIME + 5)
        assert [name for _, name in receiver.attempts] == ["c-1", "c-2", "c-3", "c-4", "c-4"]


@virtual_time
async def test_gone_receiver_disables_its_webhook_with_an_event(caplog: pytest.LogCaptureFixture) -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda number: 410 if number == 1 else 200)
        other = found.receiver("other")
        await found.create("shop", types=("client.updated",))
        await found.create("other", types=("webhook.updated",))
        found.change(1, 2)
        await asyncio.sleep(60)
        entry = await found.entry("shop")
        assert (entry.webhook.disabled, len(receiver.attempts), entry.place) == (True, 1, 0)
        assert entry.webhook.disable_reason == "the receiver answered with status 410"
        assert entry.is_failing
        assert other.taken == ["shop"]
        (row,) = [row for row in found.stores.audit.by_place.values() if row.action == "webhook.updated"]
        assert (row.actor_kind, row.actor_name) == ("system", "webhooks")
        assert "webhook shop was disabled" in caplog.text
        enabled = replace(entry.webhook, disabled=False, disable_reason="")
        await found.stores.webhooks.save(enabled, reset=True)
        await asyncio.sleep(10)
        assert receiver.taken == ["c-1", "c-2"]


@virtual_time
async def test_webhook_that_fails_for_a_day_is_disabled(short_day: float) -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda _: 503)
        await found.create("shop", types=("client.updated",))
        for number in range(12):
            found.change(number, number)
            await asyncio.sleep(short_day / 12)
        assert not (await found.entry("shop")).webhook.disabled
        found.change(12, 12)
        await asyncio.sleep(60)
        entry = await found.entry("shop")
        assert (entry.webhook.disabled, entry.dead_letters) == (True, 12)
        assert entry.webhook.disable_reason == "every delivery failed for a day"
        attempts = len(receiver.attempts)
        found.change(13, 13)
        await asyncio.sleep(60)
        assert len(receiver.attempts) == attempts


@virtual_time
async def test_a_success_ends_the_failing_day(short_day: float) -> None:
    async with site("a") as found:
        receiver = found.receiver("shop", lambda number: 200 if number == 4 else 503)
        await found.create("shop", types=("client.updated",))
        found.change(1, 1)
        await asyncio.sleep(short_day / 2)
        found.change(2, 2)
        await asyncio.sleep(short_day / 2 + 100)
        found.change(3, 3)
        await asyncio.sleep(100)
        assert receiver.taken == ["c-2"]
        entry = await found.entry("shop")
        assert (entry.webhook.disabled, entry.dead_letters) == (False, 2)


@virtual_time
async def test_replay_sends_events_again() -> None:
    async with site("a") as found:
        receiver = found.receiver("shop")
        await found.create("shop")
        found.change(1, 4)
        await asyncio.sleep(10)
        await found.stores.webhooks.move("shop", 2)
        found.nodes["a"][0].wake()
        await asyncio.sleep(10)
        assert receiver.taken == ["c-1", "c-2", "c-3", "c-4", "c-3", "c-4"]
        assert (await found.entry("shop")).place == 4


@virtual_time
async def test_changed_url_counts_for_the_next_attempt_and_a_deleted_webhook_gets_none() -> None:
    async with site("a") as found:
        old, new = found.receiver("shop", lambda _: 500), found.receiver("new")
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(5)
        entry = await found.entry("shop")
        await found.stores.webhooks.save(replace(entry.webhook, url="https://new.example/"))
        await asyncio.sleep(10)
        assert (len(old.attempts), new.taken) == (1, ["c-1"])
        assert await found.stores.webhooks.delete("shop", 2)
        found.change(2, 2)
        await asyncio.sleep(10)
        assert new.taken == ["c-1"]
        assert await found.stores.events.positions() == {}


@virtual_time
async def test_dead_letters_beyond_the_limit_are_deleted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivering, "MAX_DEAD_LETTERS", 2)
    async with site("a") as found:
        found.receiver("shop", lambda _: 500)
        await found.create("shop")
        found.change(1, 3)
        await asyncio.sleep(200)
        assert [each.sequence for each in await found.stores.webhooks.letters("shop", limit=9)] == [2, 3]
        assert "1 older dead letters of webhook shop were deleted" in caplog.text


@virtual_time
async def test_unavailable_database_stops_nothing_for_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with site("a") as found:
        receiver = found.receiver("shop")
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(5)
        with monkeypatch.context() as patch:

            async def fail(*_: object, **__: object) -> None:
                raise StoreUnavailableError

            for store, method in (
                (found.stores.webhooks, "list"),
                (found.stores.events, "position"),
                (found.stores.leases, "acquire"),
            ):
                patch.setattr(store, method, fail)
            await asyncio.sleep(120)
        found.change(2, 2)
        await asyncio.sleep(60)
        assert receiver.taken == ["c-1", "c-2"]
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert sum("events of webhook shop can't be delivered" in each for each in warnings) == 1


@virtual_time
async def test_event_whose_row_is_damaged_becomes_a_dead_letter_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with site("a") as found:
        receiver, other = found.receiver("shop"), found.receiver("bank")
        await found.create("shop", client_id="")
        await found.create("bank", client_id="")
        asked = 0

        def damaged(event: StoredEvent) -> bytes:
            nonlocal asked
            if event.sequence != 2:
                return payload_of(event)
            asked += 1
            assert event.row is not None
            return payload_of(structs.replace(event, row=structs.replace(event.row, fields="{")))

        monkeypatch.setattr(delivering, "payload_of", damaged)
        found.change(1, 3)
        await asyncio.sleep(60)
        assert receiver.taken == other.taken == ["c-1", "c-3"]
        assert asked == 2 * 3, "as often as the rules say"
        (letter,) = await found.stores.webhooks.letters("shop", limit=9)
        assert (letter.sequence, letter.last_error) == (2, "unexpected DecodeError")
        await found.stores.webhooks.request("shop", [(letter.chain_id, letter.position)])
        found.nodes["a"][0].wake()
        found.change(4, 4)
        await asyncio.sleep(10)
        assert receiver.taken == ["c-1", "c-3", "c-4"]
        assert "can't be sent to webhook shop" in caplog.text
        assert not (await found.entry("shop")).webhook.disabled


@virtual_time
async def test_defect_at_one_webhook_delays_no_other_and_is_tried_again_with_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with site("a") as found:
        receiver, other = found.receiver("shop"), found.receiver("bank")
        await found.create("shop")
        await found.create("bank")
        await asyncio.sleep(5)
        letters, asked = found.stores.webhooks.letters, 0

        async def unreadable(webhook_id: str, **options: Any) -> Sequence[DeadLetter]:
            nonlocal asked
            if webhook_id == "shop":
                asked += 1
                raise KeyError("sequence")
            return await letters(webhook_id, **options)

        with monkeypatch.context() as patch:
            patch.setattr(found.stores.webhooks, "letters", unreadable)
            found.change(1, 1)
            await asyncio.sleep(60)
        assert (receiver.taken, other.taken) == ([], ["c-1"])
        assert 5 <= asked <= 10
        (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert record.getMessage().endswith(
            "webhook shop can't be delivered, trying again: unexpected KeyError"
        )
        await asyncio.sleep(60)
        assert receiver.taken == ["c-1"]


@virtual_time
async def test_webhooks_that_can_not_be_read_end_no_delivery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with site("a") as found:
        receiver = found.receiver("shop")
        await found.create("shop")
        await asyncio.sleep(5)

        async def unreadable() -> None:
            raise ValueError("no category")

        with monkeypatch.context() as patch:
            patch.setattr(found.stores.webhooks, "list", unreadable)
            found.change(1, 1)
            await asyncio.sleep(60)
        assert receiver.taken == ["c-1"]
        assert caplog.text.count("webhooks can't be read, trying again: unexpected ValueError") == 1


@virtual_time
async def test_old_dead_letters_end_by_their_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "DEAD_LETTER_RETENTION", HOUR / 2)
    async with site("a") as found:
        found.receiver("shop", lambda _: 500)
        await found.create("shop")
        found.change(1, 1)
        await asyncio.sleep(100)
        assert (await found.entry("shop")).dead_letters == 1
        await asyncio.sleep(HOUR)
        assert (await found.entry("shop")).dead_letters == 0

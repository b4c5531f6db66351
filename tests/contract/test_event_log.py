"""The contract of `EventLog`."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.builders import NOW, a_draft
from tests.contract.test_audit_store import an_event
from token_service.core.events.event import Action, Target
from token_service.core.events.log import EventHead
from token_service.tokens.revocation import RevocationTarget


def a_change(number: int):
    return an_event(number, action=Action.CLIENT_UPDATED, target=Target("client", f"c-{number}"))


async def test_events_are_numbered_in_the_order_of_their_transactions(stores):
    epoch = (await stores.events.head()).epoch
    assert len(epoch) >= 16
    assert await stores.events.head() == EventHead(epoch, 0, 0, waiting=False)
    await stores.audit.append([a_change(1), an_event(2)])
    await stores.audit.append([a_change(3), a_change(4)])
    assert await stores.events.head() == EventHead(epoch, 0, 0, waiting=True)
    assert await stores.events.sequence(2) == 2
    assert await stores.events.sequence(10) == 1
    assert await stores.events.sequence(10) == 0
    assert await stores.events.head() == EventHead(epoch, 3, 0, waiting=False)
    events = await stores.events.read(0, 10)
    assert [(event.sequence, event.type, event.row.target) for event in events] == [
        (1, "client.updated", "c-1"),
        (2, "client.updated", "c-3"),
        (3, "client.updated", "c-4"),
    ]
    assert [event.id for event in events] == [f"{event.chain_id}:{event.position}" for event in events]
    assert [event.sequence for event in await stores.events.read(1, 1)] == [2]
    assert await stores.events.read(3, 10) == []


async def test_age_of_the_oldest_event_that_waits(stores):
    assert await stores.events.waiting() == 0.0
    await stores.audit.append([a_change(1), a_change(2)])
    first = await stores.events.waiting()
    assert 0.0 <= first < 60.0
    await asyncio.sleep(0.01)
    assert await stores.events.waiting() > first
    await stores.events.sequence(1)
    assert 0.0 < await stores.events.waiting() < 60.0
    await stores.events.sequence(1)
    assert await stores.events.waiting() == 0.0


async def test_routine_events_are_announced_only_if_wanted(stores):
    await stores.audit.append([an_event(1)])
    stores.audit.announce_routine(True)
    await stores.audit.append([an_event(2)])
    stores.audit.announce_routine(False)
    await stores.audit.append([an_event(3)])
    assert await stores.events.sequence(10) == 1
    assert [event.type for event in await stores.events.read(0, 10)] == ["token.issued"]


async def test_concurrent_movers_number_each_event_once(pair):
    one, other = pair

    async def write(stores, first):
        for number in range(first, first + 20):
            await stores.audit.append([a_change(number), a_change(number + 100)])

    async def move(stores):
        for _ in range(15):
            await stores.events.sequence(3)

    await asyncio.gather(write(one, 0), write(other, 20), move(one), move(other), move(one))
    while await one.events.sequence(10):
        pass
    events = await other.events.read(0, 500)
    assert [event.sequence for event in events] == list(range(1, 81))
    assert len({event.id for event in events}) == 80
    for chain_id in {event.chain_id for event in events}:
        positions = [event.position for event in events if event.chain_id == chain_id]
        assert positions == sorted(positions)


async def test_moves_beside_renewals_purges_and_writes_lose_nothing(pair):
    """All of them take locks of several rows: none waits for another in a circle."""
    one, other = pair

    async def write(stores, first):
        for number in range(first, first + 20):
            await stores.audit.append([a_change(number), a_change(number + 100)])

    async def move(stores):
        for _ in range(20):
            await stores.events.sequence(3)

    async def purge(stores):
        for _ in range(20):
            assert await stores.events.purge(0.0, 10) == 0

    async def renew(stores):
        for number in range(1, 8):
            head = await stores.log.head()
            renewal = a_draft(RevocationTarget.TOKEN_ID, event=a_change(1000 + number))
            assert await stores.log.renew(
                renewal, replaces=head.epoch, epoch=f"renewed-{number}", sequence=1000 * number, keep=True
            )

    await asyncio.gather(
        *(write(one, 0), write(other, 20), move(one), move(other), purge(one), purge(other), renew(other))
    )
    while await one.events.sequence(10):
        pass
    events = await other.events.read(0, 500)
    numbers = [event.sequence for event in events]
    assert numbers == sorted(set(numbers))
    assert len({event.id for event in events}) == len(events) == 87
    for chain_id in {event.chain_id for event in events}:
        positions = [event.position for event in events if event.chain_id == chain_id]
        assert positions == sorted(positions)


async def test_purge_deletes_the_oldest_and_remembers_where(stores):
    await stores.audit.append([a_change(number) for number in range(5)])
    await stores.events.sequence(4)
    assert await stores.events.purge(0.0, 10) == 0
    assert await stores.events.purge(NOW + 1e9, 3) == 3
    head = await stores.events.head()
    assert (head.sequence, head.purged, head.waiting) == (4, 3, True)
    assert [event.sequence for event in await stores.events.read(0, 10)] == [4]
    assert await stores.events.purge(NOW + 1e9, 3) == 1
    await stores.events.sequence(4)
    assert [event.sequence for event in await stores.events.read(0, 10)] == [5]


async def test_event_outlives_its_row(stores):
    await stores.audit.append([a_change(1), a_change(2)])
    await stores.events.sequence(10)
    await stores.audit.prune(NOW + 1.5, 0.0, NOW, 10)
    first, second = await stores.events.read(0, 10)
    assert (first.type, first.row, second.row.target) == ("client.updated", None, "c-2")


async def test_consumer_moves_only_from_its_known_place(pair):
    one, other = pair
    assert await one.events.position("mail") is None
    assert await one.events.start("mail", 7) == 7
    assert await other.events.start("mail", 9) == 7
    assert await other.events.advance("mail", 7, 8)
    assert not await one.events.advance("mail", 7, 9)
    assert not await one.events.advance("letter", 7, 9)
    assert await one.events.positions() == {"mail": 8}
    await one.events.forget("mail")
    assert await other.events.position("mail") is None


@pytest.mark.parametrize("keep", [True, False])
async def test_numbers_jump_when_the_revocation_log_is_renewed(stores, keep):
    await stores.audit.append([a_change(1)])
    await stores.events.sequence(10)
    head = await stores.log.head()
    renewal = a_draft(RevocationTarget.TOKEN_ID if keep else RevocationTarget.EVERYTHING)
    assert await stores.log.renew(renewal, replaces=head.epoch, epoch="renewed", sequence=1000, keep=keep)
    await stores.audit.append([a_change(2)])
    await stores.events.sequence(10)
    first, second = await stores.events.read(0, 10)
    assert first.sequence == 1
    assert second.sequence > 1_000_000_000_000_000, "above all numbers that readers may have seen"
    assert (await stores.events.head()).sequence == second.sequence

"""Reading a time range of the trail: the ends of the chains, and every kind of tampering within them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from tests.support.memory_audit import MemoryAuditStore
from tests.unit.core.reports.trail.day import END, HOUR, START, a_day
from token_service.core.events.chain import AuditKeys, AuditRow
from token_service.core.events.checkpoint import Place
from token_service.core.events.event import Actor
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reading import TrailRead, read
from token_service.tokens.secret import Secret

DAY = Period.of(START, END)


async def read_of(store: MemoryAuditStore, period: Period = DAY) -> tuple[TrailRead, list[tuple[str, int]]]:
    """Return the result of a reading, and the places of the events that are passed on."""
    taken: list[AuditRow] = []
    result = await read(store, period, lambda: taken.append)
    return result, [(row.chain_id, row.position) for row in taken]


async def test_events_of_the_range_are_passed_on_by_chain() -> None:
    store = a_day()
    result, taken = await read_of(store)
    assert taken == [
        *(("node-a", number) for number in range(2, 12)),
        *(("node-b", number) for number in range(1, 15)),
    ]
    assert (result.events, result.findings, result.is_intact, result.erased, result.cut) == (
        24,
        [],
        True,
        0,
        [],
    )
    assert [(each.chain_id, each.first, each.last, each.events, each.mac) for each in result.chains] == [
        ("node-a", 2, 11, 10, store.by_place["node-a", 11].mac.hex()),
        ("node-b", 1, 14, 14, store.by_place["node-b", 14].mac.hex()),
    ]


async def test_rows_between_events_of_the_range_are_verified_but_not_counted() -> None:
    store = a_day()
    # Positions 9 to 11 of `node-a` are not in the order of times: 3.5, 3.75 and 3.5 hours.
    period = Period.of(START + 3.5 * HOUR, START + 3.6 * HOUR)
    result, taken = await read_of(store, period)
    assert taken == [("node-a", 9), ("node-a", 11)]
    assert [(each.first, each.last, each.events) for each in result.chains] == [(9, 11, 2)]
    store.by_place["node-a", 10] = structs.replace(store.by_place["node-a", 10], reason="changed")
    result, _ = await read_of(store, period)
    assert result.findings == ["node-a:10 was changed, or is not in its place"]


async def test_empty_range_has_no_chains() -> None:
    result, taken = await read_of(a_day(), Period.of(START - 9 * HOUR, START - 8 * HOUR))
    assert (taken, result.chains, result.is_intact) == ([], [], True)


def change(**values: Any) -> Callable[[MemoryAuditStore], None]:
    def tamper(store: MemoryAuditStore) -> None:
        store.by_place["node-a", 5] = structs.replace(store.by_place["node-a", 5], **values)

    return tamper


def remove(*positions: int) -> Callable[[MemoryAuditStore], None]:
    def tamper(store: MemoryAuditStore) -> None:
        for position in positions:
            del store.by_place["node-b", position]

    return tamper


def swap(store: MemoryAuditStore) -> None:
    rows = store.by_place
    rows["node-b", 5], rows["node-b", 6] = (
        structs.replace(rows["node-b", 6], position=5),
        structs.replace(rows["node-b", 5], position=6),
    )


def move_the_end(store: MemoryAuditStore) -> None:
    store.ends["node-b"] = Place(14, "00")


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (change(actor_name="mallory"), "node-a:5 was changed, or is not in its place"),
        (change(subject="mallory"), "node-a:5 has changed personal fields"),
        (change(salt=None), "node-a:5 has personal fields that were changed after their erasure"),
        (change(key_version="other"), "node-a:5 has the audit key other, which is not configured"),
        (change(mac=b"x"), "node-a:6 was changed, or is not in its place"),
        (remove(4, 5), "node-b lacks the events 4 to 5"),
        (remove(14), "node-b lacks the events 14 to 14"),
        (swap, "node-b:5 was changed, or is not in its place"),
        (move_the_end, "node-b:14 is not the event that is noted as the end of the chain"),
    ],
)
async def test_tampering_is_found(tamper: Callable[[MemoryAuditStore], None], finding: str) -> None:
    store = a_day()
    tamper(store)
    result, _ = await read_of(store)
    assert finding in result.findings
    assert not result.is_intact
    chain = "node-a" if "node-a" in finding else "node-b"
    assert [each.chain_id for each in result.chains if not each.verified] == [chain]


async def test_missing_row_before_the_range_is_found() -> None:
    store = a_day()
    del store.by_place["node-a", 1]
    result, _ = await read_of(store)
    assert result.findings == ["node-a lacks the events 1 to 1"]


async def test_changed_row_after_the_range_is_found() -> None:
    store = a_day()
    store.by_place["node-a", 12] = structs.replace(store.by_place["node-a", 12], reason="changed")
    result, _ = await read_of(store)
    assert result.findings == ["node-a:12 was changed, or is not in its place"]


async def test_row_after_a_cut_of_the_retention_is_verified_with_the_cut() -> None:
    store = a_day()
    assert await store.prune(START, START, START, 100) == 1
    result, _ = await read_of(store)
    assert (result.is_intact, result.events, result.cut) == (True, 24, ["node-a"])
    store.by_place["node-a", 2] = structs.replace(store.by_place["node-a", 2], reason="changed")
    result, _ = await read_of(store)
    assert "node-a:2 was changed, or is not in its place" in result.findings


async def test_erased_events_verify_and_are_counted() -> None:
    store = a_day()
    erased = await store.erase(Actor("operator", "root"), "carol")
    result, _ = await read_of(store)
    assert (erased, result.erased, result.is_intact) == (2, 2, True)


async def test_retention_during_the_reading_starts_it_again() -> None:
    store = a_day()
    pages = store.rows

    async def prune_once(chain_id: str, after: int, limit: int) -> Any:
        if store.written == []:
            assert await store.prune(START + 2 * HOUR, START, START, 100) == 5
        return await pages(chain_id, after, limit)

    store.rows = prune_once  # type: ignore[method-assign]
    started: list[list[AuditRow]] = []

    def start() -> Callable[[AuditRow], None]:
        started.append([])
        return started[-1].append

    result = await read(store, DAY, start)
    assert (len(started), result.is_intact, result.events) == (2, True, 20)
    assert len(started[-1]) == 20


async def test_other_key_verifies_nothing() -> None:
    store = a_day()
    store.keys = AuditKeys([Secret(b"b" * 32)])  # type: ignore[misc]
    result, _ = await read_of(store)
    assert not any(each.verified for each in result.chains)
    assert result.findings[0].endswith("which is not configured")

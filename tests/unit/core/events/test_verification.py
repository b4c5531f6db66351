"""Every kind of tampering with the stored trail is found."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec import structs

from tests.support.memory_audit import MemoryAuditStore
from token_service.core.events.chain import AuditKeys, AuditRow
from token_service.core.events.checkpoint import Checkpoint, Place
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target
from token_service.core.events.export import export, parse_checkpoint
from token_service.core.events.verification import Verification, verify
from token_service.tokens.secret import Secret

SIZE = 6
CHAINS = ("node-a", "node-b")


class Clock:
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0


def a_trail() -> MemoryAuditStore:
    """Two chains of six events, a checkpoint after three of each, and one at the end."""
    store = MemoryAuditStore(Clock())
    for half in range(2):
        for store.chain_id in CHAINS:
            store.add([
                AuditEvent(
                    action=Action.REVOKED,
                    actor=Actor("caller", "login"),
                    target=Target("subject", "alice", "alice"),
                    comment=f"remark {half} {number}",
                    origin=Origin("192.0.2.1", "Firefox"),
                )
                for number in range(SIZE // 2)
            ])  # fmt: skip
        run(store.checkpoint(1_800_000_000.0))
    return store


def run(awaitable: Any) -> Any:
    return asyncio.run(awaitable)


def check(store: MemoryAuditStore, exported: Checkpoint | None = None) -> Verification:
    result: Verification = run(verify(store, exported))
    return result


def test_untouched_trail_is_intact() -> None:
    result = check(a_trail())
    assert (result.events, result.chains, result.checkpoints, result.findings) == (2 * SIZE, 2, 2, [])


def test_progress_counts_the_verified_events() -> None:
    numbers: list[int] = []
    run(verify(a_trail(), None, numbers.append))
    assert numbers == [SIZE, 2 * SIZE]


def other(value: Any) -> Any:
    """Return another value of the type."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return b"x" * 16 if value is None else value + "x"


PLACES = st.tuples(st.sampled_from(CHAINS), st.integers(1, SIZE))
FIELDS = [name for name in AuditRow.__struct_fields__ if name not in {"chain_id", "position"}]


@given(PLACES, st.sampled_from(FIELDS))
def test_changed_row_is_found_at_its_place(place: tuple[str, int], field: str) -> None:
    store = a_trail()
    row = store.by_place[place]
    store.by_place[place] = structs.replace(row, **{field: other(getattr(row, field))})
    findings = check(store).findings
    assert f"{place[0]}:{place[1]}" in {finding.place for finding in findings}


@given(PLACES)
def test_removed_row_is_found(place: tuple[str, int]) -> None:
    store = a_trail()
    del store.by_place[place]
    (finding, *_) = check(store).findings
    assert finding.place.startswith(f"{place[0]}:")
    assert f"the events {place[1]} to {place[1]} are missing" in finding.problem


@given(PLACES, PLACES)
def test_swapped_rows_are_found(one: tuple[str, int], two: tuple[str, int]) -> None:
    store = a_trail()
    rows = store.by_place
    rows[one], rows[two] = (
        structs.replace(rows[two], chain_id=one[0], position=one[1]),
        structs.replace(rows[one], chain_id=two[0], position=two[1]),
    )
    found = {finding.place for finding in check(store).findings}
    if one == two:
        assert not found
    else:
        assert {f"{chain}:{position}" for chain, position in (one, two)} <= found


@given(PLACES, st.integers(1, SIZE + 1))
def test_inserted_row_is_found(source: tuple[str, int], position: int) -> None:
    store = a_trail()
    chain_id = source[0]
    rows = [row for (chain, _), row in sorted(store.by_place.items()) if chain == chain_id]
    rows.insert(position - 1, store.by_place[source])
    for number, row in enumerate(rows, 1):
        store.by_place[chain_id, number] = structs.replace(row, position=number)
    findings = check(store).findings
    # A copy before or after the row itself changes nothing up to that place.
    first = position + 1 if source[1] == position else position
    assert findings[0].place == f"{chain_id}:{first}"


@given(st.sampled_from(CHAINS), st.integers(0, SIZE - 1))
def test_cut_off_end_is_found_even_if_the_noted_end_is_moved_back(chain_id: str, kept: int) -> None:
    store = a_trail()
    for position in range(kept + 1, SIZE + 1):
        del store.by_place[chain_id, position]
    if kept:
        store.ends[chain_id] = Place(kept, store.by_place[chain_id, kept].mac.hex())
    else:
        del store.ends[chain_id]
    assert any(f"to {SIZE} are missing" in finding.problem for finding in check(store).findings)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "field", ["create_time", "full", "heads", "cuts", "key_version", "previous_mac", "mac"]
)
def test_changed_checkpoint_is_found(number: int, field: str) -> None:
    store = a_trail()
    checkpoint = store.written[number]
    value = getattr(checkpoint, field)
    changed: Any = (
        {"x": Place(1, "00")} if isinstance(value, dict) else (not value if field == "full" else other(value))
    )
    store.written[number] = structs.replace(checkpoint, **{field: changed})
    assert f"checkpoint {number + 1}" in {finding.place for finding in check(store).findings}


def test_removed_first_checkpoint_is_found() -> None:
    store = a_trail()
    del store.written[0]
    assert [str(finding) for finding in check(store).findings] == [
        "checkpoint 2: the checkpoints before it are missing"
    ]


def test_end_removed_with_its_checkpoint_is_found_only_with_an_exported_one() -> None:
    store = a_trail()
    exported = store.written[-1]
    del store.written[-1]
    for chain_id in CHAINS:
        for position in range(SIZE // 2 + 1, SIZE + 1):
            del store.by_place[chain_id, position]
        store.ends[chain_id] = Place(SIZE // 2, store.by_place[chain_id, SIZE // 2].mac.hex())
    assert check(store).is_intact
    findings = {str(finding) for finding in check(store, exported).findings}
    assert "exported checkpoint 2: the checkpoints 2 to 2 are missing" in findings
    assert "node-a:3: the events 4 to 6 are missing" in findings


def test_erasure_without_a_record_is_found() -> None:
    store = a_trail()
    place = (CHAINS[0], 2)
    empty = dict.fromkeys(("subject", "comment", "ip_address", "user_agent"), "")
    store.by_place[place] = structs.replace(store.by_place[place], salt=None, **empty)
    (finding,) = check(store).findings
    assert finding.problem == "1 rows are erased, but only 0 erasures are recorded"


def test_rows_of_an_earlier_key_verify_as_long_as_it_is_configured() -> None:
    store = a_trail()
    new = AuditKeys([Secret(b"n" * 32)])
    both = AuditKeys([Secret(b"n" * 32), Secret(b"a" * 32)])
    changed: Any = copy(store)
    changed.keys = both
    assert check(changed).is_intact
    changed.keys = new
    problems = {finding.problem for finding in check(changed).findings}
    assert f"its audit key {store.keys.version} is not configured" in problems


async def lines_of(store: MemoryAuditStore) -> list[bytes]:
    return [line async for line in export(store, 1_800_000_100.0)]


def test_export_has_every_event_and_a_checkpoint_that_compares_equal() -> None:
    store = a_trail()
    lines = run(lines_of(store))
    assert len(lines) == 2 * SIZE + 1
    exported = parse_checkpoint(b"".join(lines))
    assert exported == store.written[-1]
    assert check(store, exported).is_intact
    forged = structs.replace(exported, create_time=exported.create_time + 1)
    assert "exported checkpoint 3" in {finding.place for finding in check(store, forged).findings}


@pytest.mark.parametrize("text", [b"", b"{}", b'{"checkpoint": 7}'])
def test_file_without_a_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="no checkpoint in its last line"):
        parse_checkpoint(text)

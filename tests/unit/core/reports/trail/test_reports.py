"""What each kind of report says of a known trail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.memory_audit import MemoryAuditStore
from tests.unit.core.reports.trail.day import END, FORMULA, HOUR, MARKUP, START, DayClock, a_day
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.reports.trail import counting
from token_service.core.reports.trail.document import Report, hash_of
from token_service.core.reports.trail.geography import NO_LOCATOR, network_of
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reports import KINDS, Locations, make_report
from token_service.core.reports.trail.usage import NO_ROUTINE
from token_service.core.risk.location import Location

DAY = Period.of(START, END)


async def report_of(kind: str, store: MemoryAuditStore | None = None, period: Period = DAY) -> Report:
    return await make_report(store or a_day(), kind, period)


async def members_of(kind: str, store: MemoryAuditStore | None = None) -> Mapping[str, Any]:
    return (await report_of(kind, store)).members()


def rows(members: Mapping[str, Any], table: str) -> Sequence[Sequence[Any]]:
    return [tuple(row.values()) for row in members["tables"][table]["rows"]]


async def test_usage_counts_by_interval_client_and_classification() -> None:
    members = await members_of("usage")
    assert members["figures"] == {
        "issued": 2,
        "refreshed": 2,
        "exchanged": 1,
        "revoked": 3,
        "reused": 1,
        "refused": 9,  # 3 + 1 + 5 with the unrecorded ones
        "refused_by_validators": 3,
        "expired": 5,
        "sessions": 2,
        "peak": 3,
        "peak_time": "2020-03-02T01:00:00Z",
    }
    by_hour = rows(members, "by_hour")
    assert len(by_hour) == 24
    assert by_hour[1] == ("2020-03-02T01:00:00Z", 1, 2, 0, 0, 0, 0, 0, 0)
    assert by_hour[12] == ("2020-03-02T12:00:00Z", 0, 0, 0, 0, 0, 4, 0, 0)
    assert rows(members, "by_client") == [
        ("web", 1, 2, 0, 1, 1, 5, 0, 3),
        ("", 0, 0, 0, 2, 0, 4, 3, 1),
        ("orders", 0, 0, 1, 0, 0, 0, 0, 1),
        (FORMULA, 1, 0, 0, 0, 0, 0, 0, 0),
    ]
    assert rows(members, "refused_by_validators") == [("EXPIRED", 2), ("REVOKED", 1)]
    assert rows(members, "by_classification") == [("internal", 2, 0, 0)]
    assert members["notes"] == []


async def test_usage_without_routine_events_says_how_to_get_them() -> None:
    store = MemoryAuditStore(DayClock())
    store.add(
        [AuditEvent(action=Action.LOG_RENEWED, actor=Actor.system("x"), target=Target("log"), time=START)]
    )
    assert (await members_of("usage", store))["notes"] == [NO_ROUTINE]
    assert NO_ROUTINE in (await members_of("geography", store))["notes"]


async def test_administration_lists_who_changed_what() -> None:
    members = await members_of("administration")
    assert members["figures"] == {
        "changes": 8,
        "clients": 1,
        "policies": 1,
        "keys": 3,
        "revocations": 3,
        "other": 0,
        "actors": 4,
    }
    assert rows(members, "by_actor") == [
        ("operator", "olivia", 1, 1, 0, 1, 0),
        ("system", "key rotation", 0, 0, 3, 0, 0),
        ("system", "revocation", 0, 0, 0, 1, 0),
        ("system", "risk", 0, 0, 0, 1, 0),
    ]
    changes = rows(members, "changes")
    assert [row[0] for row in changes] == sorted(row[0] for row in changes)
    assert changes[5] == (
        "2020-03-02T09:00:00Z",
        "policies.changed",
        "operator:olivia",
        "console-1",
        "policies",
        "",
        "internal.rotate: true -> false; internal.ttl: none -> 5m; operation: set; revision: 1",
        "",
        FORMULA,
    )
    revoked = changes[4]
    assert (revoked[1], revoked[5:]) == ("revoked", ("k-1", "", "KEY_COMPROMISED", "left in a backup"))


async def test_keys_shows_the_life_of_each_signing_key() -> None:
    members = await members_of("keys")
    assert members["figures"] == {
        "prepared": 1,
        "activated": 1,
        "retired": 0,
        "revoked": 1,
        "forgotten": 0,
        "other": 1,
    }
    times = ("2020-03-02T04:00:00Z", "2020-03-02T06:00:00Z", "", "2020-03-02T08:00:00Z", "")
    assert rows(members, "signing_keys") == [("k-1", "ES256", *times)]
    assert [row[1] for row in rows(members, "changes")] == [
        "signing_key.prepared",
        "signing_key.activated",
        "mac_key.prepared",
        "revoked",
    ]


async def test_anomalies_have_verdicts_with_evidence_refusals_and_causes() -> None:
    members = await members_of("anomalies")
    assert members["figures"] == {
        "risk": 2,
        "reused": 1,
        "raced": 1,
        "authentication_failed": 5,
        "permission_denied": 3,
        "quota_exceeded": 1,
        "revoked": 2,
        "received": 1,
        "lost": 9,
    }
    assert rows(members, "verdicts") == [("alert", 0, 1), ("revoke_session", 1, 0)]
    assert rows(members, "signals") == [("new_country", 2, 80), ("reuse", 1, 35)]
    assert rows(members, "reuse_by_client") == [("web", 1, 1)]
    assert rows(members, "authentication_failures") == [("web", "unknown secret", 5)]
    assert rows(members, "refusals") == [
        ("permission.denied", "caller:spiffe://example.org/login", "RevokeSigningKey", "admin.write", 3),
        ("quota.exceeded", "caller:spiffe://example.org/login", "IssueToken", "rate of client", 1),
    ]
    assert rows(members, "revocations_by_cause") == [("age", 1), ("risk", 1)]
    first, _ = rows(members, "latest_verdicts")
    evidence = f"new_country (40): {MARKUP}; reuse (35)"
    assert first[1:] == ("alice", "s-1", "web", "DE", 75, "revoke_session", "no", evidence)
    assert [row[1:6] for row in rows(members, "latest_reuse")] == [
        ("refresh_token.raced", "alice", "s-1", "web", "192.0.2.1"),
        ("refresh_token.reused", "alice", "s-1", "web", "2001:db8:1:2::3"),
    ]
    assert rows(members, "latest_revocations")[1][1:] == (
        *("age", "classifications.internal", "subject", "carol", "", "too old"),
    )


class Countries:
    def locate(self, address: str) -> Location | None:
        country = {"192.0.2.1": "FR", "2001:db8:1:2::3": "US"}.get(address)
        return None if country is None else Location(country)


async def test_geography_takes_the_country_of_a_verdict_before_that_of_its_address() -> None:
    locations = Locations(Countries(), "ab" * 32)
    members = (await make_report(a_day(), "geography", DAY, locations)).members()
    assert rows(members, "by_country") == [
        ("FR", 4, 1, 2, 0, 0, 0),
        ("US", 4, 1, 0, 1, 1, 0),
        ("DE", 1, 0, 0, 1, 0, 0),
        ("unknown", 1, 0, 0, 0, 0, 1),
    ]
    assert rows(members, "by_network") == [
        ("2001:db8:1::/48", 5, 1, 0, 2, 1, 0),
        ("192.0.2.0/24", 4, 1, 2, 0, 0, 0),
        ("unknown", 1, 0, 0, 0, 0, 1),
    ]
    assert members["figures"] == {"countries": 3, "placed": 9, "unknown": 1, "without_address": 14}
    assert members["locations"] == "ab" * 32


async def test_geography_without_a_file_has_the_countries_of_verdicts() -> None:
    members = await members_of("geography")
    assert [row[:2] for row in rows(members, "by_country")] == [("unknown", 9), ("DE", 1)]
    assert members["notes"] == [NO_LOCATOR]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.77", "198.51.100.0/24"),
        ("::ffff:198.51.100.77", "198.51.100.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("example.org", "unknown"),
    ],
)
def test_network_hides_the_rest_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("kind", KINDS)
async def test_erased_fields_are_told_as_erased(kind: str) -> None:
    store = a_day()
    for subject in ("alice", "carol"):
        await store.erase(Actor("operator", "root"), subject)
    members = await members_of(kind, store)
    assert members["erased"] == 10
    for personal in ("alice", "carol", "too old", "192.0.2.1"):
        assert personal not in json.dumps(members)
    if kind == "anomalies":
        assert {row[1] for row in rows(members, "latest_verdicts")} == {"(erased)"}
        assert rows(members, "latest_revocations")[1][4:] == ("(erased)", "", "(erased)")


@pytest.mark.parametrize("kind", KINDS)
async def test_hash_covers_everything_else(kind: str) -> None:
    store = a_day()
    members = await members_of(kind, store)
    assert await members_of(kind, store) == members
    assert hash_of(members) == members["sha256"]
    assert hash_of({**members, "sha256": ""}) == members["sha256"]
    for name in members.keys() - {"sha256"}:
        assert hash_of({**members, name: "another"}) != members["sha256"], name
    # Another trail with the same events has other MACs.
    other = await members_of(kind)
    assert other["tables"] == members["tables"]
    assert other["sha256"] != members["sha256"]


@pytest.mark.parametrize(
    "fields", ["{", "[1]", '{"evidence": [7, {"weight": 1}], "country": 5, "score": "x"}']
)
async def test_damaged_fields_count_as_none(fields: str) -> None:
    store = a_day()
    for place, row in store.by_place.items():
        object.__setattr__(store, "by_place", {**store.by_place, place: _with_fields(row, fields)})
    for kind in KINDS:
        members = await members_of(kind, store)
        assert not members["verified"]
    assert rows(await members_of("anomalies", store), "signals") == []


def _with_fields(row: Any, fields: str) -> Any:
    from msgspec import structs

    return structs.replace(row, fields=fields)


async def test_memory_is_bounded_and_the_report_names_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting.Counts.__init__, "__defaults__", (2,))
    monkeypatch.setattr(counting.Latest.__init__, "__defaults__", (3,))
    usage = await members_of("usage")
    by_client = usage["tables"]["by_client"]
    assert [row["client_id"] for row in by_client["rows"]] == ["web", FORMULA]
    assert by_client["other"]["exchanged"] == 1
    assert by_client["other"]["revoked"] == 2
    changes = (await members_of("administration"))["tables"]["changes"]
    assert len(changes["rows"]) == 3
    assert changes["note"] == "The latest 3; 5 earlier ones are counted but not listed."


_ACTIONS = st.sampled_from([action for action in Action if action is not Action.AUDIT_ERASED])
_EVENTS = st.lists(
    st.tuples(st.integers(0, 47), _ACTIONS, st.sampled_from(["web", "shop", ""]), st.sampled_from("ab")),
    max_size=30,
)
_NOT_SUMS = {"sessions", "peak", "peak_time", "actors", "countries"}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(_EVENTS, st.integers(1, 47))
async def test_reports_of_two_adjacent_ranges_add_up_to_that_of_both(
    kind: str, drawn: list[tuple[int, Action, str, str]], cut: int
) -> None:
    store = MemoryAuditStore(DayClock())
    for hour, action, client, chain in drawn:
        store.chain_id = chain
        store.add([
            AuditEvent(
                action=action,
                actor=Actor("caller", "login"),
                target=Target("key", client, client_id=client),
                fields={"cause": "risk", "count": 2, "total": 3, "sessions": 4, "unrecorded": hour, "action": "alert", "country": "DE"},
                time=START + hour * HOUR,
            )
        ])  # fmt: skip
    ranges = ((0, 48), (0, cut), (cut, 48))
    whole, first, second = [
        (await report_of(kind, store, Period.of(START + start * HOUR, START + end * HOUR, "hour"))).members()
        for start, end in ranges
    ]
    for name, value in whole["figures"].items():
        if name not in _NOT_SUMS:
            assert value == first["figures"][name] + second["figures"][name], name
    for name, table in whole["tables"].items():
        if name == "signing_keys":  # a row has the first time of each step
            continue
        assert _sums([table]) == _sums([first["tables"][name], second["tables"][name]]), name
    assert whole["events"] == first["events"] + second["events"] == len(drawn)


def _sums(tables: Sequence[Mapping[str, Any]]) -> Mapping[tuple[str, ...], Sequence[int]]:
    """Return the numbers of all rows by their texts. Rows of listings and of keys are themselves."""
    found: dict[tuple[str, ...], list[int]] = {}
    for table in tables:
        for row in table["rows"]:
            key = tuple(value for value in row.values() if isinstance(value, str))
            numbers = [value for value in row.values() if isinstance(value, int)]
            known = found.setdefault(key, [0] * len(numbers))
            found[key] = [one + other for one, other in zip(known, numbers, strict=True)]
    return found

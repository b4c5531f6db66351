"""The counts that subscribers report are bounded, and add up for each subscriber."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.virtual_time import ManualClock
from token_service.core.subscribers import validations
from token_service.core.subscribers.validations import (
    MAX_COUNT,
    MAX_REFUSALS,
    ValidationReport,
    ValidationReports,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reports(clock: ManualClock) -> ValidationReports:
    return ValidationReports(clock)


def report(**fields: Any) -> ValidationReport:
    return ValidationReport(**fields)


def test_reports_of_a_subscriber_add_up(reports: ValidationReports):
    heard: list[tuple[int, dict[str, int]]] = []
    reports.on_report(lambda validated, refusals: heard.append((validated, dict(refusals))))
    reports.add("a", "gateway", report(client_version="python/1", validated=2, refusals=[("EXPIRED", 1)]))
    reports.add("a", "gateway", report(validated=3, refusals=[("EXPIRED", 4), ("REVOKED", 1)]))
    reports.add("b", "gateway", report(client_version="go/2"))
    total = reports.of("a")
    assert total is not None
    assert (total.client_version, total.validated) == ("python/1", 5)
    assert total.refusals == {"EXPIRED": 5, "REVOKED": 1}
    assert set(reports.all()) == {"a", "b"}
    assert heard == [(2, {"EXPIRED": 1}), (3, {"EXPIRED": 4, "REVOKED": 1})]


def test_unknown_reasons_and_too_many_entries_count_as_other(reports: ValidationReports):
    entries = [("EXPIRED", 1)] * MAX_REFUSALS + [("REVOKED", 5)]
    reports.add("a", "gateway", report(refusals=entries))
    reports.add("a", "gateway", report(refusals=[("x" * 10_000, 2), ("expired", 1), ("", 1)]))
    total = reports.of("a")
    assert total is not None
    assert total.refusals == {"EXPIRED": MAX_REFUSALS, "OTHER": 9}


def test_counts_out_of_bounds_are_bounded(reports: ValidationReports):
    huge = 2**63 - 1
    reports.add("a", "gateway", report(validated=huge, refusals=[("EXPIRED", huge), ("EXPIRED", huge)]))
    reports.add("a", "gateway", report(validated=-huge, refusals=[("EXPIRED", -1), ("REVOKED", 0)]))
    total = reports.of("a")
    assert total is not None
    assert (total.validated, total.refusals) == (MAX_COUNT, {"EXPIRED": MAX_COUNT})


def test_report_without_a_client_version_leaves_the_last_one(reports: ValidationReports):
    reports.add("a", "gateway", report(client_version="python/1", validated=1))
    reports.add("a", "gateway", report(validated=1))
    total = reports.of("a")
    assert total is not None
    assert (total.client_version, total.validated) == ("python/1", 2)


def test_older_client_without_a_report_takes_no_place(reports: ValidationReports):
    reports.add("a", "gateway", report())
    assert reports.of("a") is None


def test_report_without_a_name_reaches_only_the_listeners(reports: ValidationReports):
    heard: list[int] = []
    reports.on_report(lambda validated, _: heard.append(validated))
    reports.add("", "gateway", report(validated=3))
    assert (heard, dict(reports.all())) == ([3], {})


def test_invented_names_of_one_caller_leave_room_for_another(
    reports: ValidationReports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(validations, "MAX_REPORTING_PER_CALLER", 3)
    for number in range(10):
        reports.add(f"mallory:{number}", "mallory", report(validated=1))
    reports.add("gateway:a", "gateway", report(validated=1))
    assert list(reports.all()) == ["mallory:0", "mallory:1", "mallory:2", "gateway:a"]


def test_counts_are_forgotten_an_hour_after_the_last_report(
    reports: ValidationReports, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(validations, "MAX_REPORTING", 2)
    reports.add("a", "gateway", report(validated=1))
    clock.elapsed += 1800
    reports.add("b", "gateway", report(validated=1))
    reports.add("c", "gateway", report(validated=1))
    assert (reports.of("a") is None, reports.of("c") is None) == (False, True)
    clock.elapsed += 1801
    reports.add("c", "gateway", report(validated=1))
    assert (reports.of("a"), set(reports.all())) == (None, {"b", "c"})

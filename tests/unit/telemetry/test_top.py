"""The label of the busiest names."""

from __future__ import annotations

from token_service.telemetry.top import TopNames


def test_first_names_get_a_label_and_further_ones_share_other() -> None:
    top = TopNames(2, "other")
    assert [top.label(name) for name in ("a", "b", "c", "a", "c", "b")] == [
        "a",
        "b",
        "other",
        "a",
        "other",
        "b",
    ]


def test_busy_name_replaces_the_weakest_one() -> None:
    top = TopNames(2, "other")
    for _ in range(40):
        top.label("busy")
    top.label("rare")
    labels = [top.label("late") for _ in range(40)]
    assert labels[:15] == ["other"] * 15
    assert labels[15:] == ["late"] * 25
    assert top.label("rare") == "other"
    assert top.label("busy") == "busy"


def test_equal_names_do_not_take_turns() -> None:
    top = TopNames(1, "other")
    assert {top.label("a") for _ in range(100)} == {"a"}
    assert {top.label("b") for _ in range(199)} == {"other"}


def test_names_that_ever_have_a_label_are_bounded() -> None:
    top = TopNames(3, "other")
    labels = {top.label(f"name {number}") for number in range(500) for _ in range(16 * (number + 1))}
    assert len(labels) <= 3 * 20 + 1
    assert len(top._counts) <= 32


def test_zero_names_have_labels() -> None:
    top = TopNames(0, "other")
    assert {top.label(name) for name in "abc" for _ in range(100)} == {"other"}


def test_names_with_a_series_of_a_predecessor_keep_it() -> None:
    top = TopNames(2, "other", ["b", "other", "a", "c"])
    assert [top.label(name) for name in ("a", "b", "d")] == ["a", "b", "other"]

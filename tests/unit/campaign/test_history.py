from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.campaign.history import History, Journal, from_ranges, to_ranges


def test_records_of_all_processes_come_once_and_in_the_order_of_time(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "one.jsonl"), Journal(tmp_path / "other.jsonl")
    history = History(tmp_path)
    one.write("a", at=1.0)
    one.write("c", at=3.0)
    other.write("b", b=0.5, e=2.0)
    assert [record["k"] for record in history.new()] == ["a", "b", "c"]
    other.write("d", at=4.0)
    assert [record["k"] for record in history.new()] == ["d"]
    assert list(history.new()) == []


def test_line_torn_by_a_kill_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"k": "a", "at": 1.0}) + '\n{"k":"b","a')
    history = History(tmp_path)
    assert [record["k"] for record in history.new()] == ["a"]
    Journal(path).write("c", at=3.0)  # the process that is started again
    assert [record["k"] for record in history.new()] == ["c"]


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([7], "7"), ([1, 2, 3, 7], "1-3,7"), ([9, 3, 4], "3-4,9")]
)
def test_numbers_round_trip_as_ranges(numbers: list[int], text: str) -> None:
    assert to_ranges(numbers) == text
    assert list(from_ranges(text)) == sorted(numbers)

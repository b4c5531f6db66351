"""The written forms of reports: exact bytes, and nothing in them that a reader's program would run."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.unit.cli.reports.golden import golden, report_of_the_day
from tests.unit.core.reports.trail.day import FORMULA, MARKUP
from token_service.cli.reports import html
from token_service.cli.reports.formats import FORMATS, as_csv, as_html, as_json, parse
from token_service.core.reports.trail.document import hash_of
from token_service.core.reports.trail.reports import KINDS

_GOLDEN = dict(golden())


@pytest.mark.parametrize("file", _GOLDEN, ids=lambda file: file.name)
def test_report_has_the_bytes_of_its_golden_file(file: Path) -> None:
    assert _GOLDEN[file].decode() == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_written_report_is_read_back(kind: str, form: str) -> None:
    report = report_of_the_day(kind)
    members = report.members()
    found, head, parsed = parse(FORMATS[form](report))
    assert (found, head.report, head.sha256) == (form, kind, members["sha256"])
    assert (head.start, head.end, head.by) == ("2020-03-02T00:00:00Z", "2020-03-03T00:00:00Z", "hour")
    assert (head.events, head.erased, head.verified) == (members["events"], 2, True)
    assert parsed == (members if form == "json" else None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"report": 1}',
        b"<!doctype html>",
        b"report,format,1\n",
        b"\xff\xfe",
        b"a\0b",
        b"a,b\nc",
    ],
)
def test_other_file_is_no_report(data: bytes) -> None:
    with pytest.raises(ValueError, match="is no report that this command wrote"):
        parse(data)


def test_hash_is_that_of_the_canonical_json() -> None:
    members = json.loads(as_json(report_of_the_day("usage")))
    sha256 = members.pop("sha256")
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == sha256 == hash_of(members)


class _Elements(HTMLParser):
    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


@pytest.mark.parametrize("kind", KINDS)
def test_page_runs_nothing_and_loads_nothing(kind: str) -> None:
    page = as_html(report_of_the_day(kind))
    elements = _Elements(page)
    assert elements.tags.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "a", "form", "use", "image"}
    )
    names = {name for name, _ in elements.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert names.isdisjoint({"style", "src", "href", "xlink:href", "action", "background", "ping"})
    assert b"url(" not in page
    assert b"@import" not in page
    assert b"http://" not in page
    assert re.findall(rb"https://", page) == []


def test_policy_of_the_page_allows_only_its_own_style() -> None:
    page = as_html(report_of_the_day("usage")).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize("kind", ["administration", "anomalies", "usage"])
def test_hostile_names_are_text_on_the_page(kind: str) -> None:
    page = as_html(report_of_the_day(kind)).decode()
    assert MARKUP not in page
    assert "<script" not in page
    if kind != "usage":
        assert "&lt;script&gt;alert(&#39;report&#39;)&lt;/script&gt;" in page


def test_csv_has_no_formula_and_no_line_of_another_table() -> None:
    for kind in KINDS:
        lines = list(csv.reader(io.StringIO(as_csv(report_of_the_day(kind)).decode())))
        for line in lines:
            assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
            assert not [cell for cell in line if "\n" in cell]
    text = as_csv(report_of_the_day("administration")).decode()
    assert f"'{FORMULA}" in text
    assert "a\\nby_client,evil,1" in text
    assert "\nby_client," not in text


def test_csv_has_the_same_numbers_as_json() -> None:
    report = report_of_the_day("usage")
    lines = list(csv.reader(io.StringIO(as_csv(report).decode())))
    header, *rows = [line[1:] for line in lines if line[0] == "by_hour"]
    found = [dict(zip(header, row, strict=True)) for row in rows]
    table = json.loads(as_json(report))["tables"]["by_hour"]["rows"]
    assert found == [{name: str(value) for name, value in row.items()} for row in table]


def test_page_shows_a_part_of_a_long_table_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MAX_ROWS", 3)
    page = as_html(report_of_the_day("administration")).decode()
    assert "The first 3 of 24 rows. The CSV and JSON forms of the report have all." in page
    assert "2020-03-02T02:00:00Z</td>" in page
    assert "2020-03-02T03:00:00Z</td>" not in page

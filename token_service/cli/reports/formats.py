"""The formats of reports: bytes for each, and what a written report says about itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final

import msgspec

from token_service.cli.output import visible
from token_service.core.reports.trail.document import HASH, Cell, Report

HEAD: Final = ("report", "format", "from", "to", "by", "locations", "events", "erased", "verified", HASH)
"""The members that say what a report is of."""
META: Final = "token-service-report"
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of cells that spreadsheets take for formulas."""
_MAX_HTML: Final = 1 << 16
"""Bytes of an HTML report that may come before the element with its head."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a written report says about itself."""

    report: str
    format: int
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    by: str
    locations: str
    events: int
    erased: int
    verified: bool
    sha256: str


def head_of(members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the members of `Head`."""
    return {name: members[name] for name in HEAD}


def as_json(report: Report) -> bytes:
    """Return a report as JSON."""
    return (json.dumps(report.members(), indent=2, ensure_ascii=False) + "\n").encode()


def as_csv(report: Report) -> bytes:
    """Return a report as CSV. The first cell of each line is the name of its table; a table begins with its header.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for line in _lines(report):
        writer.writerow([_cell(cell) for cell in line])
    return file.getvalue().encode()


def as_html(report: Report) -> bytes:
    """Return a report as an HTML page without scripts and without anything from elsewhere."""
    from token_service.cli.reports.html import html_of

    return html_of(report, head_of(report.members()))


FORMATS: Final[Mapping[str, Callable[[Report], bytes]]] = {"html": as_html, "csv": as_csv, "json": as_json}


def parse(data: bytes) -> tuple[str, Head, Mapping[str, Any] | None]:
    """Return the format of a written report, its head, and all of its members if it is JSON. Raises `ValueError`."""
    try:
        if data.startswith(b"{"):
            members = msgspec.json.decode(data, type=dict[str, Any])
            return "json", msgspec.convert(members, Head), members
        if data.startswith(b"<!doctype html>"):
            finder = _HeadFinder()
            finder.feed(data[:_MAX_HTML].decode("utf-8", "replace"))
            return "html", msgspec.json.decode(finder.head, type=Head), None
        lines = csv.reader(io.StringIO(data.decode()))
        head = {line[1]: line[2] for line in lines if len(line) == 3 and line[0] == "report"}
        return "csv", msgspec.convert(head, Head, strict=False), None
    except (ValueError, csv.Error, msgspec.MsgspecError) as error:
        raise ValueError("is no report that this command wrote") from error


class _HeadFinder(HTMLParser):
    """Finds the head in an HTML report."""

    head = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "meta" and found.get("name") == META:
            self.head = found.get("content") or ""


def _lines(report: Report) -> Iterator[Sequence[Cell]]:
    members = report.members()
    yield ["report", "name", "value"]
    for name, value in head_of(members).items():
        yield ["report", name, str(value).lower() if isinstance(value, bool) else value]
    yield ["figures", "name", "value"]
    for figure in report.content.figures:
        yield ["figures", figure.name, figure.value]
    for table in report.content.tables:
        yield [table.name, *(column.name for column in table.columns)]
        for row in table.rows:
            yield [table.name, *row]
        if table.other is not None:
            yield [f"{table.name}.other", *table.other]
    yield ["chains", "chain_id", "first", "last", "mac", "events", "verified"]
    for chain in report.trail.chains:
        yield [
            "chains",
            *(chain.chain_id, chain.first, chain.last, chain.mac, chain.events),
            str(chain.verified).lower(),
        ]
    notes = [
        *report.content.notes,
        *(f"{table.name}: {table.note}" for table in report.content.tables if table.note),
    ]
    for name, texts in (("findings", report.trail.findings), ("notes", notes)):
        if texts:
            yield [name, "text"]
            yield from ([name, text] for text in texts)


def _cell(cell: Cell) -> Cell:
    """Return a cell without line breaks, which could pass for lines of another table."""
    if not isinstance(cell, str):
        return cell
    text = visible(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text

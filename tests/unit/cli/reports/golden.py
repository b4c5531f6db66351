"""The written reports of a known day. `python -m tests.unit.cli.reports.golden` writes the files again: look at the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.unit.core.reports.trail.day import END, START, a_day
from token_service.cli.reports.formats import FORMATS
from token_service.core.events.event import Actor
from token_service.core.reports.trail.document import Report
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reports import KINDS, make_report

DIRECTORY = Path(__file__).with_name("golden")


def report_of_the_day(kind: str, *, erase: str = "carol") -> Report:
    """Return a report of the day, with salts of zeros, so that its MACs are always the same."""

    async def make() -> Report:
        with patch("tests.support.memory_audit.secrets.token_bytes", bytes):
            store = a_day()
            await store.erase(Actor("operator", "root"), erase)
        return await make_report(store, kind, Period.of(START, END))

    return asyncio.run(make())


def golden() -> Iterator[tuple[Path, bytes]]:
    """Return the files with what they must have."""
    for kind in KINDS:
        report = report_of_the_day(kind)
        for name, write in FORMATS.items():
            yield DIRECTORY / f"{kind}.{name}", write(report)


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for file, data in golden():
        file.write_bytes(data)

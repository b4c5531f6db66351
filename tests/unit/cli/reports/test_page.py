"""docs/reports.md has the limits of the code, and its examples are those of the help."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from token_service.cli import cli
from token_service.cli.reports import html
from token_service.core.reports.trail import counting, keys, period, reading
from token_service.core.reports.trail.reports import KINDS

PAGE = (Path(__file__).parents[4] / "docs" / "reports.md").read_text()


def test_page_lists_the_limits() -> None:
    listed = dict(re.findall(r"^\| ([a-z ]+) \| (\d+) \|", PAGE, re.MULTILINE))
    assert listed == {
        "intervals": str(period.MAX_INTERVALS),
        "keys": str(counting.MAX_KEYS),
        "listed events": str(counting.MAX_LISTED),
        "signing keys": str(keys.MAX_SIGNING_KEYS),
        "exact sessions": str(counting.EXACT_UP_TO),
        "findings": str(reading.MAX_FINDINGS),
        "rows of a page": str(html.MAX_ROWS),
    }


def test_page_lists_the_reports_and_each_has_an_example() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == KINDS
    for kind in KINDS:
        shown = CliRunner().invoke(cli, ["report", kind, "--help"], prog_name="token-service")
        assert f"token-service report {kind} --from" in shown.stdout
        assert ("--geoip" in shown.stdout) == (kind == "geography")

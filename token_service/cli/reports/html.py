"""Reports as HTML pages."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2

from token_service.cli.reports import charts
from token_service.core.reports.trail.document import Report
from token_service.core.reports.trail.period import time_text

MAX_ROWS: Final = 500
"""Rows of a table on the page. CSV and JSON have all."""
TITLES: Final = {
    "usage": "Usage",
    "administration": "Administration",
    "keys": "Keys",
    "anomalies": "Anomalies",
    "geography": "Geography",
}
_DIRECTORY: Final = Path(__file__).parent


def html_of(report: Report, head: Mapping[str, Any]) -> bytes:
    """Return the page of a report."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_DIRECTORY),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = _count
    style = environment.get_template("report.css").render()
    content = report.content
    page = environment.get_template("report.html").render(
        title=TITLES[report.kind],
        head=head,
        head_text=json.dumps(head, ensure_ascii=False),
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        start=time_text(report.period.start),
        end=time_text(report.period.end),
        trail=report.trail,
        content=content,
        tables=[(table, charts.picture(table, report.period)) for table in content.tables],
        charts=charts,
        max_rows=MAX_ROWS,
    )
    return f"{page}\n".encode()


def _count(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"

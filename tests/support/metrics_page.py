"""docs/metrics.md: its table is made from the registry. `scripts/gen-metrics` runs this module."""

from __future__ import annotations

from pathlib import Path

from token_service.telemetry.registry import REGISTRY
from token_service.telemetry.table import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics:begin -->\n", "<!-- metrics:end -->"


def written(page: str) -> str:
    """Return a page with the table of the registry between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(REGISTRY)}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))

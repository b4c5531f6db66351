"""docs/limits.md lists every limit with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from token_service.core import limits
from token_service.core.subscribers import registry as validators
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.web.connections import ConnectionLimits
from token_service.web.edge import RequestLimits

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"


def in_the_code() -> dict[str, str]:
    found: dict[str, object] = {
        field.name: field.default
        for kind in (GrpcLimits, ConnectionLimits, RequestLimits)
        for field in fields(kind)
    }
    found |= {
        name: value
        for name, value in vars(limits).items()
        if not name.startswith("_") and isinstance(value, int | float)
    }
    for name in ("SILENT_AFTER", "MAX_FOREIGN_PER_CALLER"):
        found[name] = getattr(validators, name)
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


def test_page_lists_every_limit_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a limit is listed twice"
    on_the_page = dict(rows)
    code = in_the_code()
    assert {name: on_the_page.get(name) for name in code} == code

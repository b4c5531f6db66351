"""The programs of docs/debugging.md print what the page shows."""

from __future__ import annotations

import re

from tests.integration.test_tour import tour_server
from tests.integration.tour import DOCS, Tour, steps
from token_service.errors import InvalidReason

PAGE = DOCS / "debugging.md"
_CURSOR = re.compile(r"^[\w-]{16}:", re.MULTILINE)


def test_programs_print_what_the_page_shows() -> None:
    page_steps = steps(PAGE.read_text(), "debugging")
    assert len(page_steps) == 5
    with tour_server() as node, Tour(node) as tour:
        tour._type(f"export TOKEN_SERVICE_DATA_DIR={node.data_dir}")
        for step in page_steps:
            output = tour.run(step)
            assert step.shown is not None
            assert _CURSOR.sub("<epoch>:", output.strip()) == _CURSOR.sub("<epoch>:", step.shown.strip()), (
                step.code
            )


def test_reasons_on_the_page_are_in_the_code() -> None:
    shown = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert shown
    assert shown <= {reason.name for reason in InvalidReason}

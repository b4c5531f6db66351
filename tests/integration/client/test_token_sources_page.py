"""docs/token-sources.md: its examples print what the page shows, against a real server."""

from __future__ import annotations

from tests.integration.test_tour import tour_server
from tests.integration.tour import DOCS, Tour, steps

PAGE = DOCS / "token-sources.md"


def test_the_examples_print_what_the_page_shows() -> None:
    found = steps(PAGE.read_text(), "token-sources")
    assert len(found) == 3
    with tour_server() as node, Tour(node) as tour:
        for step in found:
            output = tour.run(step)
            assert step.shown is not None
            assert output.strip() == step.shown.strip(), f"{step.code}\nprints now:\n{output}"

"""The commands of docs/operations.md print what the page shows."""

from __future__ import annotations

import re

from tests.integration.test_tour import tour_server
from tests.integration.tour import DOCS, Tour, shape, steps

_CURSOR = re.compile(r"(?<=cursor=)[\w-]{16}(?=:)")


def test_commands_print_what_the_page_shows() -> None:
    page_steps = steps((DOCS / "operations.md").read_text(), "operations")
    assert len(page_steps) == 6
    with tour_server() as node, Tour(node) as tour:
        for step in page_steps:
            if "server.log" in step.code:
                # The page reads the log from the file to which its reader redirected it.
                tour._type(f"ln -s {node._directory() / 'log'} server.log")
            output = tour.run_as_shown(step)
            assert step.shown is not None
            assert shape(_CURSOR.sub("<epoch>", output)) == shape(_CURSOR.sub("<epoch>", step.shown)), (
                step.code
            )

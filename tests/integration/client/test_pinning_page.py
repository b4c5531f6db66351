"""docs/pinning.md: its commands and its example print what the page shows."""

from __future__ import annotations

from tests.integration.tour import DOCS, Tour, steps

PAGE = DOCS / "pinning.md"


def test_the_page_prints_what_it_shows() -> None:
    found = steps(PAGE.read_text(), "pinning")
    assert len(found) == 2
    with Tour(None) as tour:
        for step in found:
            output = tour.run(step)
            assert step.shown is not None
            assert output.strip() == step.shown.strip(), f"{step.code}\nprints now:\n{output}"

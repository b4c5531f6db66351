"""docs/client.md: its examples print what the page shows, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_tour import tour_server
from tests.integration.tour import DOCS, Tour, steps
from token_service.client.config import Freshness, WhenStale

PAGE = DOCS / "client.md"
_STEPS = steps(PAGE.read_text(), "client")


@pytest.fixture(scope="module")
def tour() -> Iterator[Tour]:
    with tour_server() as node, Tour(node) as tour:
        yield tour


def test_the_examples_print_what_the_page_shows(tour: Tour) -> None:
    assert len(_STEPS) == 7
    for step in _STEPS:
        output = tour.run(step)
        assert step.shown is not None
        assert output.strip() == step.shown.strip(), f"{step.code}\nprints now:\n{output}"


def test_the_page_states_the_defaults_of_freshness() -> None:
    text = PAGE.read_text()
    default = Freshness()
    assert f"`Freshness.bound`, {default.bound:g} seconds by default" in text
    assert default.when_stale == (WhenStale.REMOTE, WhenStale.REJECT)
    assert all(f"| `{policy.name}`" in text for policy in WhenStale)

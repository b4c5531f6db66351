"""The commands of docs/tour.md and of the README print what these pages show."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.nodes import Node
from tests.integration.tour import GRACE_PERIOD, README, ROOT, SLOWER, TOUR, Tour, shape, steps


@contextmanager
def tour_server() -> Iterator[Node]:
    """Start the server of the tour by the command and with the settings on the page."""
    text = TOUR.read_text()
    match = re.search(r"^((?:TOKEN_SERVICE_\w+=\S+ )+)scripts/serve$", text, re.MULTILINE)
    assert match, "the tour does not show how to start the server"
    env = dict(setting.split("=", 1) for setting in match[1].split())
    assert env[GRACE_PERIOD] == "5s"
    env[GRACE_PERIOD] = f"{5 * SLOWER}s"
    env["TOKEN_SERVICE_VENV"] = sys.prefix
    node = Node(env=env, command=(str(ROOT / "scripts" / "serve"),), ready_timeout=100)
    assert node.data_dir.parent.is_dir()  # the node has chosen its ports by now; the tour shows the issuer
    node._settings["TOKEN_SERVICE_ISSUER"] = node.http_url
    with node:
        yield node


def test_the_tour_prints_what_it_shows() -> None:
    tour_steps = steps(TOUR.read_text())
    assert len(tour_steps) > 8
    with tour_server() as node, Tour(node) as tour:
        for step in tour_steps:
            output = tour.run_as_shown(step)
            if step.shown is None:
                assert not output.strip(), f"{step.code}\nprints what the page does not show:\n{output}"
            else:
                assert shape(output) == shape(step.shown), f"{step.code}\nprints now:\n{output}"
        said = node.log_text()
        # The commands for a new user.
        assert f"gRPC on {node.grpc_address}" in said
        assert "buf curl" in said
        assert "/.well-known/jwks.json" in said


def test_the_readme_prints_what_it_shows() -> None:
    readme_steps = steps(README.read_text(), "readme")
    assert [step.language for step in readme_steps] == ["sh", "python", "python"]
    with tour_server() as node, Tour(node) as tour:
        for step in readme_steps:
            output = tour.run(step)
            assert output.strip() == (step.shown or "").strip(), f"{step.code}\nprints now:\n{output}"

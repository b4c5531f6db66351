"""The JavaScript of docs/oauth.md prints what the page shows."""

from __future__ import annotations

import re

from tests.integration.oauth.node import OAuthNode
from tests.integration.test_oauth_page import TEXT, page_tour, run_step
from tests.integration.tour import Step, steps
from tests.support import node as nodejs

_PROGRAM = re.compile(r"^```js\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_program_prints_what_the_page_shows() -> None:
    ((program, shown),) = _PROGRAM.findall(TEXT)
    nodejs.install()
    with OAuthNode() as node, page_tour(node) as tour:
        for step in steps(TEXT, "oauth"):
            if "clients create" in step.code or step.code.startswith("cat > login.py"):
                run_step(tour, node, step)
        commands = (
            f"ln -s '{nodejs.DIRECTORY}/node_modules' node_modules\n"
            f"cat > flows.mjs <<'JS'\n{program}\nJS\n"
            f"'{nodejs.find_node().node}' flows.mjs\n"
        )
        assert tour.run(Step("sh", commands, None, None)).strip() == shown.strip()

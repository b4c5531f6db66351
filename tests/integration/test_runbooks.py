"""The commands of the runbooks answer at a running service."""

from __future__ import annotations

import re

import pytest

from tests.integration.test_operations_questions import Place, place
from tests.integration.tour import DOCS

__all__ = ["place"]  # a fixture

COMMANDS = sorted(
    {
        command
        for page in (DOCS / "runbooks").glob("*.md")
        for command in re.findall(r"`(token-service [^`]+)`", " ".join(page.read_text().split()))
    }
)
NAMED_ONLY = (
    *("clients update", "log renew", "policies reset", "policies set"),
    *("webhooks get", "webhooks test", "webhooks update", "webhooks redeliver"),
)
"""Commands that the runbooks name without the arguments that they need, or that revoke everything."""
SAYS_NO = {"access explain": 1, "explain-revocation --everything": 1}
"""Commands whose answer is no in this place, with their exit codes."""


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if not any(name in command for name in NAMED_ONLY)]
)
def test_command_answers(place: Place, command: str) -> None:
    done = place.run(command)
    expected = next((code for name, code in SAYS_NO.items() if name in command), 0)
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"

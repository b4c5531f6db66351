"""The policies: the values in force, and their changes with the difference and the revision that were seen."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.web.console.console_app import READER, ConsoleApp
from token_service.core.access.caller import Caller
from token_service.core.events.store import AuditFilter

HOSTILE = "<script>alert('policy')</script>"
SYSTEM = Caller.system()
CHANGE = 'internal.access_token_ttl = "10m"'


async def set_directly(console: ConsoleApp, value: str = "7") -> None:
    """Change a policy as another operator."""
    await console.core.policy_administration.set(
        SYSTEM, [("internal.max_retries", value)], console.clock.now()
    )


def overrides(console: ConsoleApp) -> Any:
    return console.core.policy_administration.get(SYSTEM).overrides


async def test_page_shows_each_value_with_its_source(console: ConsoleApp) -> None:
    await set_directly(console)
    page = (await console.get("policies")).text
    assert "<code>max_retries</code>" in page
    assert re.search(
        r"<code>7</code></a>\s*<div class=\"source\"><span class=\"pill info\">override</span>", page
    )
    assert "/console/policies/reset?setting=internal.max_retries" in page
    assert "/console/policies/reset?setting=internal.rotate" not in page
    assert "revision 1" in page


async def test_policy_of_a_client_is_looked_up(console: ConsoleApp) -> None:
    page = (await console.get("policies", client_id="web", audience="https://api.example")).text
    assert "Settings for web" in page
    assert re.search(r"Classification</dt><dd><span class=\"value\">internal</span>", page)


async def test_difference_is_shown_and_nothing_changes(console: ConsoleApp) -> None:
    answer = await console.post("policies/preview", changes=f"# why\r\n\r\n{CHANGE}\r\n")
    assert answer.status_code == 200
    assert "<del><code>&#34;30m&#34;</code></del>" in answer.text
    assert "<ins><code>&#34;10m&#34;</code></ins>" in answer.text
    assert 'name="revision" value="0"' in answer.text
    assert overrides(console).values == {}


async def test_change_is_put_in_force_with_its_comment(console: ConsoleApp) -> None:
    done = await console.post("policies/set", changes=CHANGE, revision="0", comment="INC-7")
    assert (done.status_code, done.headers["location"]) == (303, "/console/policies")
    assert overrides(console).values == {"internal.access_token_ttl": '"10m"'}
    assert console.node.policies.of("web").access_token_ttl == 600
    (row,) = await console.node.stores.audit.list(
        AuditFilter(actions=("policies.changed",)), limit=9, after=None
    )
    assert (row.actor_name, row.comment) == ("olivia", "INC-7")


@pytest.mark.parametrize("before", [0, 1])
async def test_change_of_another_revision_is_refused_and_keeps_the_text(
    console: ConsoleApp, before: int
) -> None:
    if before:
        await set_directly(console, "6")
    await set_directly(console)
    answer = await console.post("policies/set", changes=CHANGE, revision=str(before), comment="INC-7")
    assert answer.status_code == 409
    assert f"the policies were changed meanwhile, to revision {before + 1}" in answer.text
    assert "internal.access_token_ttl = &#34;10m&#34;</textarea>" in answer.text
    assert 'name="comment" value="INC-7"' in answer.text
    assert overrides(console).values == {"internal.max_retries": "7"}
    again = await console.post("policies/preview", changes=CHANGE, comment="INC-7")
    assert f'name="revision" value="{before + 1}"' in again.text
    assert 'value="INC-7"' in again.text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ("internal.rotate", "Line 1: is not PATH = VALUE"),
        ("internal.access_token_ttl = 10m", "is not one value in the notation"),
        ("internal.acess_token_ttl = 10", "did you mean access_token_ttl"),
        ("none.rotate = true", "no classification"),
        ("internal.rotate = true\ninternal.rotate = false", "is set twice"),
        ("internal.max_retries = 0", "0 with a grace_period of 10 s"),
        ("# nothing", "must have from 1 to 256 items"),
    ],
)
@pytest.mark.parametrize("action", ["preview", "set"])
async def test_problems_are_shown_beside_the_text(
    console: ConsoleApp, action: str, changes: str, problem: str
) -> None:
    fields = {"revision": "0"} if action == "set" else {}
    answer = await console.post(f"policies/{action}", changes=changes, **fields)
    assert answer.status_code == 400
    assert problem in answer.text
    assert changes in answer.text
    assert overrides(console).values == {}


@pytest.mark.parametrize("revision", ["", "x", "-1", "1" * 19])
async def test_wrong_revision_is_refused(console: ConsoleApp, revision: str) -> None:
    for action, fields in (("set", {"changes": CHANGE}), ("reset", {"setting": "internal.rotate"})):
        answer = await console.post(f"policies/{action}", revision=revision, **fields)
        assert answer.status_code == 400
        assert "revision" in answer.text
    assert overrides(console).values == {}


async def test_override_is_reset_after_its_difference(console: ConsoleApp) -> None:
    await set_directly(console)
    shown = await console.get("policies/reset", setting="internal.max_retries")
    assert "<del><code>7</code></del>" in shown.text
    assert "<ins><code>100</code></ins>" in shown.text
    assert overrides(console).values == {"internal.max_retries": "7"}
    fields = {"setting": "internal.max_retries", "comment": "INC-8"}
    await set_directly(console, "8")
    early = await console.post("policies/reset", revision="1", **fields)
    assert early.status_code == 409
    assert "to revision 2" in early.text
    assert 'value="INC-8"' in early.text
    done = await console.post("policies/reset", revision="2", **fields)
    assert (done.status_code, done.headers["location"]) == (303, "/console/policies")
    assert overrides(console).values == {}


async def test_reset_of_a_setting_without_an_override_has_no_button(console: ConsoleApp) -> None:
    shown = await console.get("policies/reset", setting="internal.rotate")
    assert "The setting has no override." in shown.text
    assert "Remove the override" not in shown.text


async def test_form_of_a_setting_has_its_value(console: ConsoleApp) -> None:
    page = (await console.get("policies/edit", setting="internal.rotate")).text
    assert "internal.rotate = true\n</textarea>" in page


async def test_reader_sees_the_difference_without_a_button(console: ConsoleApp) -> None:
    console.become(READER)
    assert "policies/edit" not in (await console.get("policies")).text
    answer = await console.post("policies/preview", changes=CHANGE)
    assert "<ins>" in answer.text
    assert "you need the permission <code>admin.write</code>" in answer.text
    assert "Put in force" not in answer.text


async def test_hostile_values_are_escaped(console: ConsoleApp) -> None:
    for answer in (
        await console.get("policies", client_id=HOSTILE),
        await console.get("policies/edit", setting=HOSTILE),
        await console.get("policies/reset", setting=HOSTILE),
        await console.post("policies/preview", changes=f"{HOSTILE} = 1", comment=HOSTILE),
        await console.post("policies/check", file=f"# {HOSTILE}"),
    ):
        assert answer.status_code in {200, 400}
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text

"""The way to a revocation: the form, the preview, the button and the wait."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.web.console.console_app import READER, ConsoleApp

HOSTILE = "<script>alert('value')</script>"


async def test_preview_shows_the_reach_and_revokes_nothing(console: ConsoleApp) -> None:
    issued = await console.node.issue("alice")
    answer = await console.post("revocations/preview", target="subject", value="alice", comment="left")
    assert answer.status_code == 200
    assert "Revoke subject alice?" in answer.text
    assert re.search(r"Live sessions</dt><dd><span class=\"value\">1</span>", answer.text)
    assert 'name="comment" value="left"' in answer.text
    assert (await console.node.session(issued.session_id)).revoke_time is None
    assert not console.node.published


async def test_revocation_is_stored_and_leads_to_the_wait(console: ConsoleApp) -> None:
    issued = await console.node.issue("alice")
    console.core.subscribers.connect("orders")
    answer = await console.post(
        "revocations/revoke",
        target="session",
        value=issued.session_id,
        reason="compromised",
        comment="stolen laptop",
    )
    assert answer.status_code == 303
    where = urlsplit(answer.headers["location"])
    assert where.path == "/console/revocations/wait"
    cursor = parse_qs(where.query)["cursor"][0]
    waiting = await console.get("revocations/wait", cursor=cursor)
    assert "0 of 1 validator have confirmed" in waiting.text
    assert 'hx-get="/console/revocations/wait/state' in waiting.text

    console.core.subscribers.confirm("orders", int(cursor.rpartition(":")[2]))
    done = await console.get("revocations/wait/state", part=True, cursor=cursor)
    assert "All 1 validator have confirmed." in done.text
    assert "hx-get" not in done.text, "it is complete, so the page asks no more"

    listed = (await console.get("revocations", target="session")).text
    for text in (issued.session_id, "stolen laptop", "compromised", "operator:olivia"):
        assert text in listed


async def test_everything_needs_the_word(console: ConsoleApp) -> None:
    preview = await console.post("revocations/preview", target="everything")
    assert 'name="confirmation"' in preview.text
    refused = await console.post("revocations/revoke", target="everything")
    assert refused.status_code == 400
    assert "confirmation" in refused.text
    assert not console.node.published
    done = await console.post("revocations/revoke", target="everything", confirmation="everything")
    assert done.status_code == 303
    assert len(console.node.published) == 1


async def test_token_is_revoked_without_being_in_a_url(console: ConsoleApp) -> None:
    token = (await console.node.issue("alice")).access_token
    preview = await console.post("revocations/preview", target="token", value=token)
    assert preview.status_code == 200
    done = await console.post("revocations/revoke", target="token", value=token)
    assert done.status_code == 303
    assert token not in done.headers["location"]
    assert len(console.node.published) == 1


async def test_reader_is_told_what_it_may_not(console: ConsoleApp) -> None:
    console.become(READER)
    preview = await console.post("revocations/preview", target="subject", value="alice")
    assert "you need the permission <code>revoke</code>" in preview.text
    assert 'class="danger"' not in preview.text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"target": "session", "value": "no id"}, "session_id"),
        ({"target": "planet", "value": "earth"}, "target"),
        ({"target": "subject"}, "subject"),
        ({"target": "token"}, "value"),
        ({"target": "subject", "value": "a", "reason": "mood"}, "reason"),
        ({"target": "subject", "value": "a", "comment": "c" * 513}, "comment"),
    ],
)
@pytest.mark.parametrize("action", ["preview", "revoke"])
async def test_wrong_form_is_refused_with_its_field(
    console: ConsoleApp, action: str, fields: dict[str, str], problem: str
) -> None:
    answer = await console.post(f"revocations/{action}", **fields)
    assert answer.status_code == 400
    assert problem in answer.text
    assert not console.node.published


async def test_hostile_values_are_escaped(console: ConsoleApp) -> None:
    for answer in (
        await console.get("revocations/new", target="subject", value=HOSTILE),
        await console.post("revocations/preview", target="subject", value=HOSTILE, comment=HOSTILE),
    ):
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text


async def test_wait_for_a_renewed_log_ends(console: ConsoleApp) -> None:
    answer = await console.get("revocations/wait", cursor="earlier-log:7")
    assert "The log was renewed since." in answer.text
    assert "hx-get" not in answer.text


@pytest.mark.parametrize("target", ["subject", "client", "key", "token_id"])
async def test_token_in_the_place_of_an_id_is_neither_stored_nor_in_a_url(
    console: ConsoleApp, target: str
) -> None:
    token = (await console.node.issue("alice")).refresh_token
    for action in ("revocations/preview", "revocations/revoke"):
        answer = await console.post(action, target=target, value=token)
        assert answer.status_code == 400, action
        assert "has the form of a token" in answer.text
        assert token not in answer.text
        assert "location" not in answer.headers
    assert not console.node.published
    assert token not in str(console.node.audit.events)

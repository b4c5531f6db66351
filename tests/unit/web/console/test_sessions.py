"""The sessions: the search, one session, and the revocation of many."""

from __future__ import annotations

import re

import pytest

from tests.unit.web.console.console_app import ConsoleApp

HOSTILE = "<script>alert('subject')</script>"


async def test_search_lists_the_live_sessions_of_an_owner(console: ConsoleApp) -> None:
    first = await console.node.issue("alice", "web")
    other = await console.node.issue("bob", "web")
    ended = await console.node.issue("alice", "web")
    await console.post("revocations/revoke", target="session", value=ended.session_id)
    found = (await console.get("sessions", by="subject", value="alice")).text
    assert first.session_id in found
    assert other.session_id not in found
    assert ended.session_id not in found
    assert ended.session_id in (await console.get("sessions", by="subject", value="alice", ended="1")).text
    assert other.session_id in (await console.get("sessions", by="client_id", value="web")).text


async def test_nothing_is_listed_without_an_owner(console: ConsoleApp) -> None:
    issued = await console.node.issue("alice")
    found = (await console.get("sessions")).text
    assert issued.session_id not in found
    assert "Name a subject, a client or a device" in found


async def test_session_shows_its_end(console: ConsoleApp) -> None:
    issued = await console.node.issue("alice", "web")
    live = (await console.get("sessions/session", id=issued.session_id)).text
    assert "Session of alice" in live
    assert f"/console/revocations/new?target=session&amp;value={issued.session_id}" in live
    await console.post("revocations/revoke", target="subject", value="alice", reason="compromised")
    ended = (await console.get("sessions/session", id=issued.session_id)).text
    assert "through its subject, reason: compromised" in ended
    assert "Revoke this session" not in ended


async def test_unknown_session_is_not_found(console: ConsoleApp) -> None:
    answer = await console.get("sessions/session", id="1b4e28ba-2fa1-41d2-883f-0016d3cca427")
    assert answer.status_code == 404


async def test_hostile_subject_is_escaped(console: ConsoleApp) -> None:
    issued = await console.node.issue(HOSTILE)
    for answer in (
        await console.get("sessions", by="subject", value=HOSTILE),
        await console.get("sessions/session", id=issued.session_id),
        await console.post("sessions/count", subject=HOSTILE),
    ):
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text


async def test_many_sessions_are_counted_and_then_revoked_part_by_part(
    console: ConsoleApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_service.core.revocation.bulk.DEFAULT_PART", 2)
    issued = [await console.node.issue("alice", "web") for _ in range(5)]
    spared = await console.node.issue("bob", "web")
    counted = await console.post("sessions/count", subject="alice", comment="left")
    assert "5 live sessions selected" in counted.text
    assert not console.node.published

    answer = await console.post("sessions/revoke", subject="alice", comment="left", total="5")
    steps = 1
    while token := re.search(r'name="page_token" value="([^"]+)"', answer.text):
        done = re.search(r'name="done" value="(\d+)"', answer.text)
        assert done is not None
        assert f"{done[1]} sessions revoked so far, of about 5." in answer.text
        answer = await console.post(
            "sessions/revoke",
            subject="alice",
            comment="left",
            total="5",
            done=done[1],
            page_token=token[1],
        )
        steps += 1
    assert steps >= 3
    assert "Done: 5 sessions revoked." in answer.text
    assert "revocations/wait?cursor=" in answer.text
    for each in issued:
        assert (await console.node.session(each.session_id)).revoke_time is not None
    assert (await console.node.session(spared.session_id)).revoke_time is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "filter"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"subject": "a", "total": "-1"}, "total"),
        ({"subject": "a", "done": "9" * 13}, "done"),
        ({"subject": "a", "page_token": "forged"}, "page_token"),
    ],
)
async def test_wrong_selection_is_refused(console: ConsoleApp, fields: dict[str, str], problem: str) -> None:
    answer = await console.post("sessions/revoke", **fields)
    assert answer.status_code == 400
    assert problem in answer.text
    assert not console.node.published


async def test_times_of_a_selection_are_utc(console: ConsoleApp) -> None:
    await console.node.issue("alice")
    now = console.clock.now()
    early, late = ("1970-01-01T00:00", "9000-01-01T00:00")
    assert now > 0
    assert (
        "1 live session selected"
        in (
            await console.post("sessions/count", subject="alice", created_after=early, created_before=late)
        ).text
    )
    assert (
        "0 live sessions selected"
        in (await console.post("sessions/count", subject="alice", created_after=late)).text
    )

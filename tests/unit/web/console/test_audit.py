"""The audit trail: the search, the verification and the explanation of a revocation."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from tests.unit.web.console.console_app import ConsoleApp
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.verification import Verification
from token_service.core.subscribers.samples import CursorSample
from token_service.core.subscribers.validations import ValidationReport
from token_service.web.console.pages.audit_rows import ShownEvent

HOSTILE = "<script>alert('event')</script>"


async def revoke(console: ConsoleApp, subject: str = "alice", comment: str = "left") -> str:
    """Revoke a new session as the operator. Return the id of the session."""
    session_id = (await console.node.issue(subject)).session_id
    answer = await console.post(
        "revocations/revoke", target="session", value=session_id, reason="compromised", comment=comment
    )
    assert answer.status_code == 303
    return session_id


def actions(page: str) -> list[str]:
    """Return the actions of the listed events."""
    return re.findall(r'<th scope="row">([a-z_.]+)\s', page)


async def note(console: ConsoleApp, *actions: Action, name: str = "root", **target: str) -> None:
    """Write events."""
    events = [
        AuditEvent(action=action, actor=Actor("operator", name), target=Target(**target))
        for action in actions
    ]
    await console.node.stores.audit.append(events)


async def test_event_shows_all_of_its_fields(console: ConsoleApp) -> None:
    session_id = await revoke(console)
    page = (await console.get("audit", session_id=session_id, action="revoked")).text
    assert actions(page) == ["revoked"]
    for text in ("operator:olivia", session_id, "left", "<code>cursor</code>", "COMPROMISED"):
        assert text.lower() in page.lower()
    assert f"/console/audit/explanation?target=session&amp;value={session_id}" in page


async def test_filters_select_events(console: ConsoleApp) -> None:
    before = actions((await console.get("audit")).text)
    await note(console, Action.CLIENT_CREATED, kind="client", id="web", client_id="web")
    console.clock.elapsed += 3600
    later = console.clock.now()
    await note(console, Action.CLIENT_DISABLED, kind="client", id="shop", client_id="shop", name="rita")
    searches: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["client.disabled", "client.created", *before]),
        ({"action": "client.created"}, ["client.created"]),
        ({"actor": "rita"}, ["client.disabled"]),
        ({"client_id": "web"}, ["client.created"]),
        ({"subject": "nobody"}, []),
        ({"session_id": "none"}, []),
    ]
    for query, expected in searches:
        assert actions((await console.get("audit", **query)).text) == expected
    moment = _minute(later)
    assert actions((await console.get("audit", since=moment)).text) == ["client.disabled"]
    assert actions((await console.get("audit", until=moment)).text) == ["client.created", *before]


def _minute(time: float) -> str:
    return datetime.fromtimestamp(time - 60, UTC).strftime("%Y-%m-%dT%H:%M")


async def test_list_is_paged(console: ConsoleApp) -> None:
    for number in range(51):
        await note(console, Action.CLIENT_CREATED, kind="client", id=f"c{number}", client_id="web")
    first = (await console.get("audit", client_id="web")).text
    assert len(actions(first)) == 50
    following = re.search(r'page_token=([^"&]+)" rel="next"', first)
    assert following is not None
    last = (await console.get("audit", client_id="web", page_token=following.group(1))).text
    assert actions(last) == ["client.created"]
    assert "<code>c0</code>" in last


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"action": "mood"}, "actions[0]"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01T00:00"}, "until"),
        ({"page_token": "x"}, "page_token"),
        ({"actor": "a" * 1025}, "actor"),
    ],
)
async def test_wrong_filter_is_refused_with_its_field(
    console: ConsoleApp, query: dict[str, Any], problem: str
) -> None:
    answer = await console.get("audit", **query)
    assert answer.status_code == 400
    assert problem in answer.text


async def test_intact_trail_is_verified(console: ConsoleApp) -> None:
    await note(console, Action.CLIENT_CREATED, Action.CLIENT_UPDATED)
    events = len(console.node.stores.audit.by_place)
    assert events >= 2
    answer = await console.post("audit/verify")
    assert "The trail is intact" in answer.text
    assert f'Events</dt><dd><span class="value">{events}</span>' in answer.text


async def test_changed_event_is_found(console: ConsoleApp) -> None:
    await note(console, Action.CLIENT_CREATED, Action.CLIENT_UPDATED)
    rows = console.node.stores.audit.by_place
    rows["memory", 1] = structs.replace(rows["memory", 1], actor_name=HOSTILE)
    answer = await console.post("audit/verify")
    assert "The trail is not as it was written." in answer.text
    assert "<code>memory:1</code>: was changed, or is not in its place" in answer.text


async def test_one_verification_runs_at_a_time(console: ConsoleApp, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def verify(_: object) -> Verification:
        began.set()
        await go_on.wait()
        return Verification()

    monkeypatch.setattr(console.core.audit_reports, "verify", verify)
    first = asyncio.create_task(console.post("audit/verify"))
    await began.wait()
    second = await console.post("audit/verify")
    assert second.status_code == 429
    assert "another verification of the audit trail is running" in second.text.lower()
    go_on.set()
    assert (await first).status_code == 200
    assert (await console.post("audit/verify")).status_code == 200


async def test_verification_that_takes_too_long_names_the_command(
    console: ConsoleApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def verify(_: object) -> Verification:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(console.core.audit_reports, "verify", verify)
    (pages,) = [page.actions["verify"].__self__ for page in console.pages if page.path == "audit"]  # type: ignore[attr-defined]
    monkeypatch.setattr(pages, "_verify_within", 0.01)
    answer = await console.post("audit/verify")
    assert answer.status_code == 504
    assert "token-service audit verify" in answer.text


async def test_explanation_shows_the_event_and_when_validators_had_it(console: ConsoleApp) -> None:
    session_id = await revoke(console)
    (entry,) = console.node.published
    now = console.clock.now()
    await console.node.stores.samples.add(
        [CursorSample(now + 0.25, "orders", console.core.replica.epoch, entry.sequence)]
    )
    report = ValidationReport(validated=1234, refusals=[("EXPIRED", 5), ("REVOKED", 2)])
    console.core.validations.add("orders", "anyone", report)
    page = (await console.get("audit/explanation", target="session", value=session_id)).text
    assert "operator:olivia" in page
    assert "1 validator had it within an hour" in page
    assert re.search(r"orders</th>.*<td class=\"number\">250 ms</td>", page, re.DOTALL)
    assert '<td class="number">1,234</td><td class="number">7</td>' in page


async def test_explanation_without_a_target_is_a_form(console: ConsoleApp) -> None:
    assert "Name a target" in (await console.get("audit/explanation")).text
    nothing = (await console.get("audit/explanation", target="subject", value="dora")).text
    assert "No stored event revoked this subject." in nothing


@pytest.mark.parametrize(
    ("query", "problem"),
    [({"target": "planet"}, "target"), ({"target": "session", "value": "x"}, "session_id")],
)
async def test_wrong_target_is_refused(console: ConsoleApp, query: dict[str, Any], problem: str) -> None:
    answer = await console.get("audit/explanation", **query)
    assert answer.status_code == 400
    assert problem in answer.text


async def test_hostile_values_are_escaped(console: ConsoleApp) -> None:
    session_id = await revoke(console, HOSTILE, HOSTILE)
    await note(console, Action.PERMISSION_DENIED, name=HOSTILE, kind="call", id=HOSTILE)
    for answer in (
        await console.get("audit"),
        await console.get("audit", subject=HOSTILE),
        await console.get("audit/explanation", target="session", value=session_id),
        await console.get("audit/explanation", target="subject", value=HOSTILE),
    ):
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text


@pytest.mark.parametrize("fields", ["{", "[1]", "7", json.dumps({"a": {"b": [1]}})])
async def test_damaged_fields_are_shown_as_they_are(console: ConsoleApp, fields: str) -> None:
    await note(console, Action.CLIENT_CREATED, kind="client", id="web")
    *_, row = console.node.stores.audit.by_place.values()
    details: dict[str, Any] = dict(ShownEvent(structs.replace(row, fields=fields)).details)
    assert details["target"] == "client web"
    assert details.get("fields", fields) == fields
    assert details.get("a", '{"b": [1]}') == '{"b": [1]}'

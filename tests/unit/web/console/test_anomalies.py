"""The anomalies of the last hours or days."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.unit.web.console.console_app import ConsoleApp
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.reports.recent_anomalies import MAX_LISTED, SPANS

HOSTILE = "<script>alert('anomaly')</script>"
SESSION = Target("session", "s-1", "alice", "s-1", "web")
REFRESH = Target("refresh_token", "", "alice", "s-1", "web")
VERDICT: dict[str, Any] = {
    "score": 75,
    "action": "revoke_session",
    "evidence": [
        {"signal": "new_country", "weight": 40, "detail": HOSTILE},
        {"signal": "reuse", "weight": 35},
    ],
    "dry_run": False,
    "country": "DE",
}


async def note(console: ConsoleApp, action: Action, target: Target, *, ago: float = 0, **values: Any) -> None:
    """Write an event of a number of seconds before now."""
    values = {"actor": Actor.system("risk"), **values}
    event = AuditEvent(action=action, target=target, time=console.clock.now() - ago, **values)
    await console.node.stores.audit.append([event])


def table(page: str, label: str) -> str:
    """Return the table of a region."""
    found = re.search(rf'aria-label="{label}">(.*?)</table>', page, re.DOTALL)
    assert found is not None, label
    return found.group(1)


async def test_verdict_shows_its_evidence_and_links(console: ConsoleApp) -> None:
    await note(console, Action.RISK_DETECTED, SESSION, fields=VERDICT, origin=Origin("192.0.2.1"))
    page = (await console.get("anomalies")).text
    shown = table(page, "Verdicts on risk")
    for text in ("revoke session", '<td class="number">75</td>', "new_country", "40", "DE", "192.0.2.1"):
        assert text in shown
    for path in (
        "sessions?by=subject&amp;value=alice",
        "sessions/session?id=s-1",
        "audit?session_id=s-1",
    ):
        assert f'href="/console/{path}"' in shown
    assert "dry run" not in shown
    assert HOSTILE not in page
    assert "&lt;script&gt;" in shown


async def test_dry_run_and_erased_fields_are_told(console: ConsoleApp) -> None:
    await note(
        console,
        Action.RISK_DETECTED,
        SESSION,
        fields={**VERDICT, "dry_run": True},
        origin=Origin("192.0.2.1"),
    )
    await console.node.stores.audit.erase(Actor("operator", "root"), "alice")
    shown = table((await console.get("anomalies")).text, "Verdicts on risk")
    assert "dry run" in shown
    assert "erased" in shown
    assert "alice" not in shown
    assert "192.0.2.1" not in shown


async def test_reuse_races_and_refusals_are_listed(console: ConsoleApp) -> None:
    await note(console, Action.REFRESH_TOKEN_RACED, REFRESH, ago=60)
    await note(console, Action.REFRESH_TOKEN_REUSED, REFRESH, ago=30, origin=Origin("198.51.100.7"))
    denied: dict[str, Any] = {
        "outcome": Outcome.DENIED,
        "reason": "admin.write",
        "actor": Actor("caller", HOSTILE),
    }
    await note(console, Action.PERMISSION_DENIED, Target("call", "RevokeSigningKey"), **denied)
    await note(console, Action.QUOTA_EXCEEDED, Target("call", "IssueToken"), **denied)
    page = (await console.get("anomalies")).text
    uses = table(page, "Reuse and races of refresh tokens")
    assert re.findall(r'class="pill \w+">(\w+)<', uses) == ["reuse", "race"]
    assert "198.51.100.7" in uses
    refusals = table(page, "Refusals")
    assert "permission.denied" in refusals
    assert re.search(r"Refused calls</dt><dd><span class=\"value\">2</span>", page)
    assert "admin.write" in refusals
    assert HOSTILE not in page


async def test_automatic_revocations_are_counted_by_cause(console: ConsoleApp) -> None:
    for cause in ("age", "risk", "age"):
        await note(console, Action.REVOKED, SESSION, fields={"cause": cause}, comment=f"for {cause}")
    await note(console, Action.REVOKED, Target("subject", "bob", "bob"), actor=Actor("operator", "olivia"))
    page = (await console.get("anomalies")).text
    shown = table(page, "Automatic revocations")
    assert "2 by age, 1 by risk" in shown
    assert shown.count("<td>for age</td>") == 2
    assert "bob" not in shown
    assert "/console/audit/explanation?target=session&amp;value=s-1" in shown
    assert re.search(r"Automatic revocations</dt><dd><span class=\"value\">3</span>", page)


@pytest.mark.parametrize("span", SPANS)
async def test_chart_counts_each_event_in_its_interval(console: ConsoleApp, span: str) -> None:
    length, width = SPANS[span]
    inside, outside = length - 2 * width, length + 2 * width
    await note(console, Action.REFRESH_TOKEN_REUSED, REFRESH, ago=inside)
    await note(console, Action.REFRESH_TOKEN_REUSED, REFRESH)
    await note(console, Action.REFRESH_TOKEN_REUSED, REFRESH, ago=outside)
    data = (await console.get("anomalies/times.json", span=span)).json()
    assert len(data["times"]) == length // width
    now = console.clock.now()
    assert data["times"][-1] <= now < data["times"][-1] + width
    series = {each["label"]: each["values"] for each in data["series"]}
    assert [number for number in series["reuse"] if number] == [1, 1]
    assert series["reuse"][-1] == 1
    place = series["reuse"].index(1)
    assert data["times"][place] <= now - inside < data["times"][place] + width
    assert set(series["races"]) == {0}
    page = (await console.get("anomalies", span=span)).text
    assert re.search(r"Reuse</dt><dd><span class=\"value\">2</span>", page)
    assert table(page, "Reuse and races of refresh tokens").count("reuse</span>") == 2
    values = table(page, "Values of the chart")
    assert re.findall(r'<td class="number">(\d)</td>', values) == ["0", "1", "0", "0", "0"] * 2


async def test_lists_have_the_newest_events(console: ConsoleApp) -> None:
    for number in range(MAX_LISTED + 1):
        target = Target("refresh_token", "", f"user-{number}", f"s-{number}", "web")
        await note(console, Action.REFRESH_TOKEN_REUSED, target, ago=600 - number)
    shown = table((await console.get("anomalies")).text, "Reuse and races of refresh tokens")
    assert shown.count("reuse</span>") == MAX_LISTED
    assert "user-0<" not in shown
    assert shown.index(f"user-{MAX_LISTED}<") < shown.index("user-1<")


async def test_page_without_anomalies_says_so(console: ConsoleApp) -> None:
    page = (await console.get("anomalies")).text
    for text in (
        "No verdict was made",
        "No refresh token was reused",
        "revoked nothing by itself",
        "No call was refused",
    ):
        assert text in page


async def test_unknown_span_is_refused(console: ConsoleApp) -> None:
    for path in ("anomalies", "anomalies/times.json"):
        answer = await console.get(path, span="year")
        assert answer.status_code == 400
        assert "span: is none of hour, day, week, month" in answer.text


async def test_reading_that_takes_too_long_names_the_command(
    console: ConsoleApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def histogram(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(console.node.stores.audit, "histogram", histogram)
    (page,) = [page.show.__self__ for page in console.pages if page.path == "anomalies"]  # type: ignore[attr-defined]
    monkeypatch.setattr(page, "_read_within", 0.01)
    answer = await console.get("anomalies")
    assert answer.status_code == 504
    assert "choose a shorter span" in answer.text
    assert "token-service report anomalies" in answer.text

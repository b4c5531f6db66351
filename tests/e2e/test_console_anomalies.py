"""The page of anomalies in Chromium, with a real reuse of a refresh token and verdicts on risk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.e2e.console_world import AUDIENCE, CLIENTS, HOSTILE, LOOKS, ConsoleWorld
from tests.e2e.pages import assert_policy_kept, assert_sound
from tests.integration.calls import refused
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync
from token_service.app.adapters import audit_keys_of, open_stores
from token_service.config import load_settings
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target
from token_service.v1.token_pb2 import TOKEN_TYPE_ACCESS, TOKEN_TYPE_REFRESH


@pytest.fixture(scope="module")
def world() -> Iterator[ConsoleWorld]:
    with ConsoleWorld(sessions=4, revoked=1, laggard=False) as made:
        made.run(reuse(made))
        asyncio.run(judge(made))
        yield made


async def reuse(world: ConsoleWorld) -> None:
    """Use a refresh token again after its successor was used."""
    issued = await world.api.issue(
        "alice",
        client_id=CLIENTS[0],
        audience=[AUDIENCE],
        scopes=["read"],
        token_types=[TOKEN_TYPE_ACCESS, TOKEN_TYPE_REFRESH],
    )
    successor = await world.api.refresh(issued.refresh_token, CLIENTS[0])
    await world.api.refresh(successor.refresh_token, CLIENTS[0])
    error = await refused(world.api.refresh(issued.refresh_token, CLIENTS[0]))
    assert error.reason == "REFRESH_TOKEN_REUSED"


async def judge(world: ConsoleWorld) -> None:
    """Write verdicts and an automatic revocation to the trail of the node, as a second process."""
    session = world.sessions[0]
    target = Target("session", session, HOSTILE, session, CLIENTS[0])
    evidence = [
        {"signal": "new_country", "weight": 40, "detail": "DE after FR within 5 minutes"},
        {"signal": "new_device", "weight": 25, "detail": HOSTILE},
    ]
    verdict = {"score": 65, "action": "step_up", "evidence": evidence, "country": "DE", "dry_run": True}
    events = [
        AuditEvent(
            action=Action.RISK_DETECTED,
            actor=Actor.system("risk"),
            target=target,
            origin=Origin("192.0.2.1", "Firefox"),
            fields=verdict,
            time=time.time() - 7200 * number,
        )
        for number in range(3)
    ]
    events.append(
        AuditEvent(
            action=Action.REVOKED, actor=Actor.system("risk"), target=target, fields={"cause": "inactivity"}
        )
    )
    settings = load_settings({"data_dir": str(world.node.data_dir)}, {})
    async with open_stores(settings, await audit_keys_of(settings), "judge") as stores:
        await stores.audit.append(events)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("span", ["day", "month"])
def test_page_is_sound_and_draws_its_chart(
    world: ConsoleWorld, chromium: Chromium, look: str, span: str
) -> None:
    page = chromium.page(**LOOKS[look])
    text = world.open(page, f"anomalies?span={span}").text
    for shown in ("DE after FR within 5 minutes", "inactivity", "DRY RUN", "REUSE", HOSTILE):
        assert shown.lower() in text.lower()
    eventually_sync(lambda: page.count(".chart canvas") == 1)
    assert page.count("h1") == 1
    assert page.count("table script") == 0
    assert_sound(page, f"console-anomalies-{span}-{look}")
    page.close()


def test_verdict_leads_to_its_session_and_the_events_of_it(world: ConsoleWorld, page: Page) -> None:
    session = world.sessions[0]
    world.open(page, "anomalies?span=hour")
    assert (
        page.count(f'a[href="/console/sessions/session?id={session}"]') == 2
    )  # of the verdict, of the revocation
    assert "risk.detected" in page.press(f"Events of session {session}", until="/audit", role="link").text
    world.open(page, f"sessions/session?id={session}")
    assert_policy_kept(page)

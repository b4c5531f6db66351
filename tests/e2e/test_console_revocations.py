"""Sessions, revocations and propagation in Chromium: how they look, and a revocation from the form to the last validator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.console_world import HOSTILE, LOOKS, ConsoleWorld
from tests.e2e.pages import assert_sound
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync
from token_service.v1 import session_service_pb2 as pb


@pytest.fixture(scope="module")
def world() -> Iterator[ConsoleWorld]:
    with ConsoleWorld() as made:
        yield made


def paths(world: ConsoleWorld) -> dict[str, tuple[str, str]]:
    """Return the path of each page, and a text in it."""
    return {
        "propagation": ("propagation", "Last measured revocations"),
        "sessions": ("sessions?by=subject&value=alice&ended=1", "Sessions of alice"),
        "session": (f"sessions/session?id={world.sessions[0]}", world.sessions[0]),
        "sessions-select": ("sessions/select", "Count or revoke sessions"),
        "revocations": ("revocations", "left the company"),
        "revocation-form": (
            f"revocations/new?target=session&value={world.sessions[1]}",
            "Nothing is revoked yet",
        ),
    }


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_sound(world: ConsoleWorld, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    for name, (path, text) in paths(world).items():
        assert text in world.open(page, path).text
        assert_sound(page, f"console-{name}-{look}")
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_revocation_shows_its_reach_and_then_each_confirmation(
    world: ConsoleWorld, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    session_id = world.sessions[10 + list(LOOKS).index(look)]
    world.open(page, f"revocations/new?target=session&value={session_id}")
    page.fill("Comment for the audit trail", HOSTILE)
    shown = page.press("Preview", until="revocations/preview$")
    assert f"Revoke session {session_id}?" in shown.text
    assert HOSTILE in shown.text
    assert_sound(page, f"console-revocation-preview-{look}")
    shown = page.press("Revoke session", until="revocations/wait")
    assert "The revocation is stored." in shown.text
    # The laggard confirms nothing. It is waited for until it counts as silent.
    counts = "7 of 8 validators have confirmed", "All 7 validators have confirmed"
    eventually_sync(lambda: any(each in page.look().text for each in counts))
    assert_sound(page, f"console-revocation-wait-{look}")
    assert world.state(session_id) == pb.SESSION_STATE_REVOKED
    page.close()


def test_many_sessions_are_revoked_part_by_part_without_a_click(world: ConsoleWorld, page: Page) -> None:
    issued = world.issue(1200, "load-test")
    world.open(page, "sessions/select")
    page.fill("Subject", "load-test")
    assert "1,200 live sessions selected" in page.press("Count", until="sessions/count$").text
    assert_sound(page, "console-sessions-count")
    page.press("Revoke 1,200 sessions", until="sessions/revoke$")
    eventually_sync(lambda: "Done: 1,200 sessions revoked." in page.look().text)
    assert_sound(page, "console-sessions-done")
    assert all(world.state(each) == pb.SESSION_STATE_REVOKED for each in issued[::100])


def test_wait_is_announced_and_stops_when_it_is_complete(chromium: Chromium) -> None:
    with ConsoleWorld(laggard=False) as world:
        page = chromium.page()
        world.open(page, f"revocations/new?target=session&value={world.sessions[0]}")
        page.press("Preview", until="revocations/preview$")
        page.press("Revoke session", until="revocations/wait")
        eventually_sync(lambda: page.count("[role=status]") == 1)
        eventually_sync(lambda: "All 7 validators have confirmed." in page.look().text)
        assert page.count("#wait[hx-get]") == 0
        page.close()

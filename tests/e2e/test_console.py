"""The console in Chromium: its first pages in both palettes, on narrow and wide windows, and what keeps them live."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.console_world import HOSTILE, LAGGARD, LOOKS, VALIDATORS, ConsoleWorld
from tests.e2e.pages import assert_policy_kept, assert_sound
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync


@pytest.fixture(scope="module")
def world() -> Iterator[ConsoleWorld]:
    with ConsoleWorld() as made:
        yield made


def figure(page: Page, label: str) -> str:
    """Return the value below a label of the overview."""
    found = re.search(rf"^{re.escape(label)}\n+(.+)$", page.look().text, re.MULTILINE)
    assert found is not None, page.look().text
    return found.group(1).split()[0]


@pytest.mark.parametrize("look", LOOKS)
def test_overview_is_sound_and_draws_its_charts(world: ConsoleWorld, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    assert "Overview" in world.open(page).text
    eventually_sync(lambda: page.count(".chart canvas") == 6)
    assert_sound(page, f"console-overview-{look}")
    assert page.count("h1") == 1
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_validators_are_sound(world: ConsoleWorld, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    text = world.open(page, "subscribers").text
    assert all(name in text for name in (*VALIDATORS, LAGGARD))
    assert_sound(page, f"console-validators-{look}")
    page.close()


def test_values_of_a_chart_are_a_sound_table(world: ConsoleWorld, page: Page) -> None:
    world.open(page)
    text = page.press("Values as a table: Tokens", until="overview/values", role="link").text
    assert "Average of each minute, per second" in text
    assert_sound(page, "console-values")


def test_hostile_name_is_text(world: ConsoleWorld, page: Page) -> None:
    assert HOSTILE in world.open(page, "subscribers").text
    assert page.count("table script") == 0
    assert_policy_kept(page)


def test_overview_follows_a_revocation_without_a_reload(world: ConsoleWorld, page: Page) -> None:
    world.open(page)
    before = int(figure(page, "Revocations kept"))
    world.revoke(session_id=world.sessions[0])
    eventually_sync(lambda: int(figure(page, "Revocations kept")) == before + 1)
    assert_policy_kept(page)


def test_paused_page_stands_still_until_it_is_resumed(
    world: ConsoleWorld, chromium: Chromium, page: Page
) -> None:
    world.open(page)
    page.press("Pause updates", until="/console$")
    before = int(figure(page, "Revocations kept"))
    world.revoke(session_id=world.sessions[1])
    second = chromium.page()
    world.open(second)
    eventually_sync(lambda: int(figure(second, "Revocations kept")) == before + 1)
    second.close()
    assert int(figure(page, "Revocations kept")) == before
    page.press("Resume updates", until="/console$")
    eventually_sync(lambda: int(figure(page, "Revocations kept")) == before + 1)


def test_keyboard_reaches_the_content_first(world: ConsoleWorld, page: Page) -> None:
    world.open(page)
    page.keyboard("Tab")
    focused = page.focused()
    assert (focused["tag"], focused["name"], focused["outline"]) == ("a", "Skip to the content", "solid 3px")
    page.keyboard("Enter")
    page.keyboard("Tab")
    assert page.focused()["tag"] != "nav"


def test_page_works_without_scripts(world: ConsoleWorld, chromium: Chromium) -> None:
    page = chromium.page(javaScriptEnabled=False)
    text = world.open(page).text
    assert "Validators connected" in text
    assert page.press("Refresh", until="/console$", role="link").status is None
    assert LAGGARD in page.press("Validators", until="/subscribers$", role="link").text
    page.close()

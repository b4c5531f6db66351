"""The console in Chromium with more rows than a page shows: pages, their size, and live parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from tests.e2e.console_world import LAGGARD, LOOKS, VALIDATORS, ConsoleWorld
from tests.e2e.pages import assert_sound
from tests.e2e.test_console import figure
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync

NAMES = [f"validator-{number:03}" for number in range(500)]
SUBJECT = "load-test"
SESSIONS = 130
MOST_ROWS = 100
MOST_ELEMENTS = 2500
"""Elements of a page: a row has at most 20, and a page about 200 more."""


@pytest.fixture(scope="module")
def world() -> Iterator[ConsoleWorld]:
    with ConsoleWorld() as made:
        for session_id in made.issue(SESSIONS, SUBJECT):
            made.revoke(session_id=session_id)
        made.follow(NAMES)  # the revocations come before, so that not each of them needs 500 confirmations
        yield made


def rows_of_pages(page: Page) -> Sequence[int]:
    """Return the number of rows of the shown page and of all pages after it. Check that none is large or wide."""
    counts = []
    while True:
        counts.append(page.count("tbody tr"))
        assert page.count("*") <= MOST_ELEMENTS
        assert page.overflow() <= 0
        if not page.count("a[rel=next]"):
            return counts
        before = page.look().url
        page.press("Next page", until=rf"^(?!{re.escape(before)}$).*page_token=", role="link")


def test_validators_are_listed_once_on_pages_of_100(world: ConsoleWorld, page: Page) -> None:
    eventually_sync(lambda: connected(world, page) == len(NAMES) + len(VALIDATORS) + 1)
    world.open(page, "subscribers")
    names: list[str] = []
    while True:
        names += re.findall(r"validator-\d{3}", page.look().text)
        assert page.count("#rows tbody tr") <= MOST_ROWS
        if not page.count("a[rel=next]"):
            break
        before = page.look().url
        page.press("Next page", until=rf"^(?!{re.escape(before)}$).*page_token=", role="link")
    assert sorted(names) == NAMES


def connected(world: ConsoleWorld, page: Page) -> int:
    world.open(page)
    return int(figure(page, "Validators connected"))


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("subscribers", [100, 100, 100, 100, 100, len(VALIDATORS) + 1]),
        (f"sessions?by=subject&value={SUBJECT}&ended=1", [50, 50, 30]),
        ("revocations", [50, 50, 38]),
    ],
)
def test_long_lists_have_small_pages(world: ConsoleWorld, page: Page, path: str, rows: list[int]) -> None:
    world.open(page, path)
    assert rows_of_pages(page) == rows


@pytest.mark.parametrize("look", LOOKS)
def test_full_pages_are_sound(world: ConsoleWorld, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    for name, path in (
        ("overview", ""),
        ("validators", "subscribers"),
        ("revocations", "revocations"),
        ("propagation", "propagation"),
        ("sessions", f"sessions?by=subject&value={SUBJECT}&ended=1"),
        ("keys", "keys"),
        ("clients", "clients"),
        ("policies", "policies"),
        ("audit", "audit"),
    ):
        world.open(page, path)
        assert_sound(page, f"console-scale-{name}-{look}")
    page.close()


def test_overview_of_500_validators_follows_a_revocation(world: ConsoleWorld, page: Page) -> None:
    world.open(page)
    before = int(figure(page, "Revocations kept").replace(",", ""))
    world.revoke(session_id=world.sessions[0])
    eventually_sync(lambda: int(figure(page, "Revocations kept").replace(",", "")) == before + 1)
    assert page.count("*") <= MOST_ELEMENTS


def has_asked(page: Page) -> bool:
    return any("/overview/state" in url for url in page.requests())


def test_hidden_tab_asks_for_nothing_until_it_is_shown_again(
    world: ConsoleWorld, chromium: Chromium, page: Page
) -> None:
    shown = chromium.page()
    for each in (page, shown):
        world.open(each)
        eventually_sync(partial(has_asked, each))
    page.hide()
    page.requests()
    shown.requests()
    asked: list[str] = []

    def has_asked_twice() -> bool:
        asked.extend(url for url in shown.requests() if "/overview/state" in url)
        return len(asked) >= 2

    eventually_sync(has_asked_twice)  # both have the same interval
    assert page.requests() == []
    page.hide(hidden=False)
    eventually_sync(partial(has_asked, page))
    shown.close()


def test_laggard_is_on_the_first_page(world: ConsoleWorld, page: Page) -> None:
    assert LAGGARD in world.open(page, "subscribers").text

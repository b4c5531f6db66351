"""Checks of the pages of a node in Chromium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.chromium import Page

LOOKS: Mapping[str, Mapping[str, Any]] = {
    "wide": {},
    "dark": {"colorScheme": "dark"},
    "phone": {"viewport": {"width": 375, "height": 667}, "deviceScaleFactor": 2, "hasTouch": True},
}
"""Options of a browser with a window of its usual size, with dark colors, and with a narrow screen."""


def assert_sound(page: Page, name: str) -> None:
    """Check a page as people with a small window, a keyboard or a screen reader meet it, and take its picture."""
    page.screenshot(name)
    assert page.axe() == []
    assert page.overflow() <= 0
    assert_policy_kept(page)


def assert_policy_kept(page: Page) -> None:
    """Check that the content security policy refused nothing of the pages since the last check."""
    assert [each for each in page.console() if "Content Security Policy" in each] == []


def assert_refuses_frames(page: Page, around: str, url: str, says: str) -> None:
    """Check that Chromium shows `url`, which has a text, by itself but not in a frame of a page at `around`."""
    assert page.framed(around, "data:text/html,shown") == "shown"
    assert says in page.goto(url).text
    page.console()
    assert says not in page.framed(around, url)
    assert [each for each in page.console() if "frame-ancestors 'none'" in each]

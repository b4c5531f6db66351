"""The login to the console in Chromium: the node is at https://localhost, the login service at another site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.e2e.browser_node import BrowserNode
from tests.e2e.console_world import LOOKS
from tests.e2e.oauth import register
from tests.e2e.pages import assert_policy_kept, assert_refuses_frames, assert_sound
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync

_OPERATORS = """
[operators.on-call]
subjects = ["alice"]
permissions = ["admin.read", "revoke"]
"""


@pytest.fixture(scope="module")
def node() -> Iterator[BrowserNode]:
    with BrowserNode(
        env={"TOKEN_SERVICE_CONSOLE_CLIENT_ID": "console", "TOKEN_SERVICE_METRICS_ADDRESS": "off"},
        policy=_OPERATORS,
    ) as made:
        register(
            made,
            "console",
            "none",
            client_name="Console",
            grant_types=["authorization_code", "refresh_token"],
            redirect_uris=[f"{made.issuer}/console/callback"],
            scopes=["openid", "admin.read", "admin.write", "revoke"],
            audiences=[made.issuer],
            first_party=True,
        )
        yield made


def log_in(page: Page, node: BrowserNode, path: str = "/console", user: str = "alice") -> str:
    """Open a page of the console and log in; return the text of the page at the end."""
    page.goto(f"{node.issuer}{path}")
    page.fill("User", user)
    return page.press("Log in", until=f"^{re.escape(node.issuer + path)}$").text


@pytest.mark.parametrize("look", ["wide-light", "narrow-dark"])
def test_login_comes_back_to_the_page_and_logout_ends_it(
    node: BrowserNode, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    assert "Connected validators" in log_in(page, node, "/console/subscribers")
    (cookie,) = [each for each in page.cookies() if each["name"] == "__Host-console"]
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
    assert_policy_kept(page)
    # A link on another site keeps the login, although its browser sends no strict cookie at first.
    page.goto(node.login.url)
    assert "Overview" in page.goto(f"{node.issuer}/console").text
    shown = page.press("Log out", until="/console/logout$")
    assert "You are logged out" in shown.text
    assert_sound(page, f"console-logged-out-{look}")
    assert "__Host-console" not in {each["name"] for each in page.cookies()}
    page.goto(f"{node.issuer}/console")
    assert page.look().url.startswith(node.login.url)
    page.close()


def test_revoked_operator_is_sent_to_the_login_while_the_page_is_open(node: BrowserNode, page: Page) -> None:
    log_in(page, node)
    eventually_sync(lambda: page.count(".chart canvas") == 6)
    (session,) = node.sessions("console")[:1]
    node.revoke(session)
    eventually_sync(lambda: page.look().url.startswith(node.login.url))
    assert urlsplit(page.look().url).netloc == urlsplit(node.login.url).netloc


def test_subject_that_is_no_operator_is_told_so(node: BrowserNode, chromium: Chromium) -> None:
    for look, options in {"light": {}, "dark": {"colorScheme": "dark"}}.items():
        page = chromium.page(**options)
        text = log_in(page, node, user="mallory")
        assert "You are logged in, but you are not an operator" in text
        assert "mallory" in text
        assert_sound(page, f"console-no-operator-{look}")
        page.close()


def test_console_is_not_shown_in_a_frame(node: BrowserNode, page: Page) -> None:
    log_in(page, node)
    assert_refuses_frames(page, node.login.url, f"{node.issuer}/console", "Overview")

"""A device that uses openid-client, and its user's Chromium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.browser_node import BrowserNode
from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import Client, ask, claims_of, register
from tests.e2e.pages import LOOKS, assert_policy_kept, assert_refuses_frames, assert_sound
from tests.support.chromium import Chromium, Page

PROGRAM = "openid_client.mjs"
LONG_NAME = "The television in the living room of " + "Donaudampfschiff" * 8


@pytest.fixture(scope="module")
def television(node: BrowserNode) -> Client:
    """A client that gets tokens by the device flow."""
    return register(
        node,
        "television",
        "none",
        client_name=LONG_NAME,
        grant_types=["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        scopes=["openid", "read"],
        first_party=True,
    )


def begin(node: BrowserNode, television: Client) -> Mapping[str, Any]:
    """Return the codes of a device."""
    answers = ask(PROGRAM, node, television, {"call": "device", "parameters": {"scope": "openid read"}})
    assert_conformant(answers.wire)
    return answers.ok()


def enter(page: Page, node: BrowserNode) -> None:
    """Confirm the code that the form shows, and log in."""
    shown = page.press("Continue", until=f"^{node.login.url}")
    assert "Log in to The television" in shown.text
    page.fill("User", "alice")
    page.press("Log in", until=f"^{node.issuer}/callback")


@pytest.mark.parametrize("look", LOOKS)
def test_pages_lead_to_a_decision(
    node: BrowserNode, television: Client, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    device = begin(node, television)
    page.goto(device["verification_uri_complete"])
    assert_sound(page, f"device-{look}")
    enter(page, node)
    shown = page.look()
    assert device["user_code"] in shown.text
    assert LONG_NAME in shown.text
    assert_sound(page, f"device-question-{look}")
    shown = page.press("Deny", until=f"^{node.issuer}/device$")
    assert "The device was denied" in shown.text
    assert_sound(page, f"device-denied-{look}")
    page.close()


def test_approved_device_gets_the_tokens_of_the_user(
    node: BrowserNode, television: Client, page: Page
) -> None:
    device = begin(node, television)
    page.goto(device["verification_uri"])
    page.fill("The code that your device shows", device["user_code"].lower())
    enter(page, node)
    assert "The device is connected" in page.press("Approve", until=f"^{node.issuer}/device$").text
    assert_sound(page, "device-connected")
    granted = ask(PROGRAM, node, television, {"call": "poll", "device": device})
    assert_conformant(granted.wire)
    claims = claims_of(node, granted.ok()["access_token"])
    assert (claims["sub"], claims["client_id"]) == ("alice", "television")


def test_wrong_code_is_told_beside_its_field(node: BrowserNode, page: Page) -> None:
    page.goto(f"{node.issuer}/device")
    focused = page.focused()
    assert focused["name"] == "The code that your device shows"
    page.fill("The code that your device shows", "AAAA-AAAA")
    page.keyboard("Tab")
    focused = page.focused()
    assert (focused["tag"], focused["name"]) == ("button", "Continue")
    assert focused["outline"] == "solid 3px"
    shown = page.press("Continue", until=f"^{node.issuer}/device$")
    assert "This code is not valid" in shown.text
    assert_sound(page, "device-wrong-code")


def test_device_page_is_not_shown_in_a_frame(node: BrowserNode, page: Page) -> None:
    assert_refuses_frames(page, node.login.url, f"{node.issuer}/device", "Connect a device")
    assert_policy_kept(page)

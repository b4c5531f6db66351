"""Chromium in front of a node, its login service and Apache as the application: pages, policies and cookies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.e2e.browser_node import BrowserNode
from tests.e2e.oauth import API
from tests.e2e.pages import LOOKS, assert_policy_kept, assert_refuses_frames, assert_sound
from tests.e2e.relying_party import RelyingParty, relying_parties
from tests.integration.calls import ACCESS, ID
from tests.support.chromium import Chromium, Page


@pytest.fixture(scope="module")
def parties(node: BrowserNode) -> Iterator[Mapping[str, RelyingParty]]:
    with relying_parties(node, {"query": (), "post": ("OIDCResponseMode form_post",)}) as made:
        yield made


@pytest.mark.parametrize("mode", ["query", "post"])
def test_login_leads_back_to_the_application(
    node: BrowserNode, parties: Mapping[str, RelyingParty], page: Page, mode: str
) -> None:
    party = parties[mode]
    shown = page.goto(party.page)
    assert shown.url.startswith(node.login.url)
    (cookie,) = [each for each in page.cookies() if each["name"].startswith("__Host-login-")]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
    page.fill("User", "alice")
    shown = page.press("Log in", until=f"^{party.page}$")
    assert "subject alice" in shown.text
    assert not [each for each in page.cookies() if "login-" in each["name"]]
    assert_policy_kept(page)


def test_cancelled_login_is_told_to_the_application(
    node: BrowserNode, parties: Mapping[str, RelyingParty], page: Page
) -> None:
    page.goto(parties["query"].page)
    # This version of the module takes an error with `iss` (RFC 9207) for a choice of a provider, so its page says nothing.
    shown = page.press("Cancel", until=f"^{parties['query'].callback}")
    answer = dict(parse_qsl(urlsplit(shown.url).query))
    assert (answer["error"], answer["iss"]) == ("access_denied", node.issuer)


@pytest.mark.parametrize("look", LOOKS)
def test_error_page_is_readable(node: BrowserNode, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    shown = page.goto(f"{node.issuer}/authorize?client_id={'long-name-' * 25}")
    assert shown.status == 400
    assert "invalid_client" in shown.text
    assert_sound(page, f"error-{look}")
    page.close()


def test_error_page_is_not_shown_in_a_frame(node: BrowserNode, page: Page) -> None:
    url = f"{node.issuer}/authorize?client_id=missing"
    assert_refuses_frames(page, node.login.url, url, "invalid_client")


def test_posted_answer_waits_for_a_browser_without_scripts(
    node: BrowserNode, parties: Mapping[str, RelyingParty], chromium: Chromium
) -> None:
    party = parties["post"]
    for look, options in LOOKS.items():
        page = chromium.page(javaScriptEnabled=False, **options)
        page.goto(party.page)
        page.fill("User", "alice")
        shown = page.press("Log in", until=f"^{node.issuer}/callback")
        assert shown.status is None
        assert "Back to the application" in shown.text
        page.screenshot(f"form-post-{look}")
        assert "subject alice" in page.press("Continue", until=f"^{party.page}$").text
        page.close()


def test_application_may_redirect_a_posted_answer_to_another_origin(
    node: BrowserNode, parties: Mapping[str, RelyingParty], page: Page
) -> None:
    party = parties["post"]
    query = {
        "client_id": party.client_id,
        "redirect_uri": f"{party.url}/moved",
        "response_type": "code",
        "response_mode": "form_post",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    page.goto(f"{node.issuer}/authorize?{urlencode(query)}")
    page.fill("User", "alice")
    page.press("Log in", until=f"^{party.url.replace('127.0.0.1', 'localhost')}/$")
    assert_policy_kept(page)


def test_logout_leads_back_to_the_public_page(
    node: BrowserNode, parties: Mapping[str, RelyingParty], page: Page
) -> None:
    party = parties["query"]
    page.goto(party.page)
    page.fill("User", "alice")
    page.press("Log in", until=f"^{party.page}$")
    shown = page.goto(f"{party.callback}?{urlencode({'logout': f'{party.url}/'})}")
    assert "Public page" in shown.text
    assert page.goto(party.page).url.startswith(node.login.url)
    assert_policy_kept(page)


def test_logout_without_a_way_back_is_confirmed(
    node: BrowserNode, parties: Mapping[str, RelyingParty], page: Page
) -> None:
    async def hint() -> str:
        async with node.api() as api:
            issued = await api.issue(
                client_id=parties["query"].client_id, audience=[API], scopes=[], token_types=[ACCESS, ID]
            )
            return issued.id_token

    shown = page.goto(f"{node.issuer}/end_session?{urlencode({'id_token_hint': asyncio.run(hint())})}")
    assert (shown.status, "You are logged out" in shown.text) == (200, True)
    assert_sound(page, "logged-out")


@pytest.mark.parametrize("look", LOOKS)
def test_logout_that_no_application_asks_for_changes_nothing(
    node: BrowserNode, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    assert "You are not logged out yet" in page.goto(f"{node.issuer}/end_session").text
    assert_sound(page, f"logout-{look}")
    page.close()

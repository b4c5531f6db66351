"""Apache's mod_auth_openidc, unmodified, as a relying party."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.e2e.browser_node import BrowserNode, hidden, log_in, log_in_to_page
from tests.e2e.oauth import claims_of
from tests.e2e.relying_party import REFRESH_ALWAYS, RelyingParty, relying_parties
from tests.support.deadline import eventually_sync


@pytest.fixture(scope="module")
def parties(node: BrowserNode) -> Iterator[Mapping[str, RelyingParty]]:
    sites = {"basic": (), "posted": ("OIDCResponseMode form_post",), "refreshing": (REFRESH_ALWAYS,)}
    with relying_parties(node, sites) as made:
        yield made


def visit(browser: httpx.Client, party: RelyingParty, user: str = "alice") -> str:
    """Return the protected page, after a login if one is needed."""
    shown = log_in_to_page(browser, party.page, user)
    if "Back to the application" in shown.text:
        posted = browser.post(party.callback, data=hidden(shown.text))
        assert posted.is_redirect, posted.text
        shown = browser.get(posted.headers["location"])
    assert shown.status_code == 200, shown.text
    return shown.text


def access_token(page: str) -> str:
    (token,) = re.findall(r"access token (\S+)</p>", page)
    return token


@pytest.fixture(scope="module", autouse=True)
def names(node: BrowserNode) -> None:
    """The login service knows the name of each user."""
    node.login.accepts["identity_claims"] = {"name": "Alice Example"}


@pytest.mark.parametrize("name", ["basic", "posted"])
def test_user_sees_the_protected_page_after_the_login(
    node: BrowserNode, parties: Mapping[str, RelyingParty], name: str
) -> None:
    with node.browser() as browser:
        page = visit(browser, parties[name])
        assert "<p>subject alice</p>" in page
        assert "<p>name Alice Example</p>" in page  # from /userinfo
        claims = claims_of(node, access_token(page))
        assert (claims["sub"], claims["client_id"]) == ("alice", parties[name].client_id)
        # The second visit is in Apache's own session.
        asked = len(node.login.requests)
        assert access_token(visit(browser, parties[name])) == access_token(page)
        assert len(node.login.requests) == asked


def test_login_begins_with_a_challenge_of_s256(
    node: BrowserNode, parties: Mapping[str, RelyingParty]
) -> None:
    with node.browser() as browser:
        url = browser.get(parties["basic"].page).headers["location"]
    query = parse_qs(urlsplit(url).query)
    assert url.startswith(f"{node.issuer}/authorize?")
    assert query["code_challenge_method"] == ["S256"]


def test_access_token_is_refreshed_before_it_expires(
    node: BrowserNode, parties: Mapping[str, RelyingParty]
) -> None:
    with node.browser() as browser:
        first = claims_of(node, access_token(visit(browser, parties["refreshing"])))
        second = claims_of(node, access_token(visit(browser, parties["refreshing"])))
    assert first["sid"] == second["sid"]
    assert first["jti"] != second["jti"]


def test_revoked_session_ends_the_login_at_the_next_refresh(
    node: BrowserNode, parties: Mapping[str, RelyingParty]
) -> None:
    party = parties["refreshing"]
    with node.browser() as browser:
        sid = claims_of(node, access_token(visit(browser, party)))["sid"]
        node.revoke(sid)
        logged_out = browser.get(party.page)
        assert "subject" not in logged_out.text
        assert "<p>subject bob</p>" in visit(browser, party, "bob")


def test_logout_at_the_application_ends_the_session_here(
    node: BrowserNode, parties: Mapping[str, RelyingParty]
) -> None:
    party = parties["basic"]
    with node.browser() as browser:
        token = access_token(visit(browser, party))
        logout = browser.get(party.callback, params={"logout": f"{party.url}/"})
        assert logout.headers["location"].startswith(f"{node.issuer}/end_session?")
        url = log_in(browser, logout.headers["location"], f"{party.url}/")
        assert browser.get(url).status_code == 200
        assert node.why(token) == "REVOKED"
        assert browser.get(party.page).is_redirect


def test_revoked_session_ends_the_login_of_its_browser_only(
    node: BrowserNode, parties: Mapping[str, RelyingParty]
) -> None:
    """Apache refreshes nothing here: it learns of the revocation from the logout token (back-channel logout)."""
    party = parties["basic"]
    with node.browser() as ended, node.browser() as other:
        visit(other, party)
        sid = claims_of(node, access_token(visit(ended, party)))["sid"]
        node.revoke(sid)
        eventually_sync(lambda: ended.get(party.page).is_redirect)
        assert "<p>subject alice</p>" in other.get(party.page).text

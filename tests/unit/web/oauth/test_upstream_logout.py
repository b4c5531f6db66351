"""Logouts that identity providers report (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.support.oidc_provider import CLIENT_ID, LOGOUT_EVENT
from tests.unit.core.node import Intercepted, raising
from tests.unit.web.oauth.browser_login import location
from tests.unit.web.oauth.oidc_site import Site
from token_service.core.grants.subjects import SubjectTemplate
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.upstream_logout import LATE
from token_service.core.sessions.session import Session
from token_service.errors import StoreUnavailableError

PATH = "/backchannel-logout/corporate"


async def logout(site: Site, token: str | None = None, path: str = PATH, **claims: Any) -> httpx.Response:
    form = {"logout_token": site.provider.logout_token(**claims) if token is None else token}
    return await site.app.post(path, form)


async def is_live(site: Site, session: Session) -> bool:
    found = await site.app.node.stores.sessions.get(session.id)
    assert found is not None
    return found.revoke_time is None


async def test_logout_of_a_session_there_ends_the_sessions_that_came_of_it(site: Site) -> None:
    ended = [await site.session(), await site.session()]
    site.provider.claims["sid"] = "session-2"
    other = await site.session()
    answer = await logout(site)
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (200, b"", "no-store")
    assert [await is_live(site, each) for each in ended] == [False, False]
    assert await is_live(site, other)
    revoked = [fields for action, fields in site.app.node.audit.events if action == "revoked"]
    assert len(revoked) == 2
    assert (revoked[0]["actor"], revoked[0]["reason"]) == ("caller:upstream:corporate", "LOGOUT")


async def partner_session(site: Site) -> Session:
    """Return a session of the user `alice` and the session `session-1` at the other provider."""
    browser = site.browser()
    back = await site.back(await site.url(browser, upstream="partner"), site.partner)
    return await site.session_of(location(await browser.get(back))["code"])


async def test_session_of_another_upstream_stays(site: Site) -> None:
    for upstream in site.app.node.core.oauth.login.upstreams.current.values():
        assert isinstance(upstream, OidcUpstream)
        upstream.settings = replace(upstream.settings, subject=SubjectTemplate.parse("{sub}"))
    ended, other = await site.session(), await partner_session(site)
    assert (ended.subject, ended.upstream_session) == (other.subject, other.upstream_session)
    assert (await logout(site)).status_code == 200
    assert (await is_live(site, ended), await is_live(site, other)) == (False, True)
    ended = await site.session()
    assert (await logout(site, sid=None, sub="alice")).status_code == 200
    assert (await is_live(site, ended), await is_live(site, other)) == (False, True)


async def test_logout_of_a_subject_ends_all_its_sessions_from_this_upstream(site: Site) -> None:
    ended = [await site.session(), await site.session()]
    site.provider.claims |= {"sub": "bob"}
    other = await site.session()
    assert (await logout(site, sid=None, sub="alice")).status_code == 200
    assert [await is_live(site, each) for each in ended] == [False, False]
    assert await is_live(site, other)


async def test_subject_that_does_not_follow_from_sub_needs_a_session(site: Site) -> None:
    site.configure(subject="{email}")
    site.provider.claims |= {"email": "a@b.example", "email_verified": True}
    session = await site.session()
    assert (await logout(site, sid=None, sub="alice")).status_code == 400
    assert await is_live(site, session)
    assert (await logout(site, sub="alice")).status_code == 200
    assert not await is_live(site, session)


async def test_token_that_is_used_again_ends_no_later_session(site: Site) -> None:
    token = site.provider.logout_token(sid=None, sub="alice")
    assert (await logout(site, token)).status_code == 200
    site.app.clock.elapsed += LATE + 1
    session = await site.session()
    again = await logout(site, token)
    assert (again.status_code, "used before" in again.json()["error_description"]) == (400, True)
    assert await is_live(site, session)


async def test_logout_that_failed_can_be_repeated_with_the_same_token(site: Site) -> None:
    session, token = await site.session(), site.provider.logout_token()
    node = site.app.node
    revocations: Any = node.core.oauth.upstream_logout._revocations
    sessions: Any = revocations._sessions
    broken: Any = Intercepted(sessions)
    broken.before["by_upstream"] = raising(StoreUnavailableError())
    revocations._sessions = broken
    failed = await logout(site, token)
    assert (failed.status_code, failed.headers["cache-control"]) == (400, "no-store")
    assert await is_live(site, session)
    revocations._sessions = sessions
    assert (await logout(site, token)).status_code == 200
    assert not await is_live(site, session)


NOT_ACCEPTED: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other.example"},
    "another audience": {"aud": "other"},
    "two audiences without azp": {"aud": [CLIENT_ID, "other"]},
    "no audience": {"aud": None},
    "no iat": {"iat": None},
    "a future iat": {"iat": 4_000_000_000},
    "no expiry": {"exp": None},
    "expired": {"exp": 1},
    "no jti": {"jti": None},
    "a long jti": {"jti": "j" * 300},
    "a jti that is no text": {"jti": 5},
    "no events": {"events": None},
    "another event": {"events": {"https://example.org/event": {}}},
    "an event that is no object": {"events": {LOGOUT_EVENT: True}},
    "events in a list": {"events": [LOGOUT_EVENT]},
    "a nonce": {"nonce": "n"},
    "neither sub nor sid": {"sid": None},
    "an empty sid": {"sid": ""},
    "a sid that is no text": {"sid": ["session-1"]},
    "a sub that is no text": {"sub": 5},
    "another type": {"typ": "at+jwt"},
    "another key": {"key": "thief"},
}


@pytest.mark.parametrize("case", NOT_ACCEPTED)
async def test_each_defect_of_a_logout_token_is_refused(site: Site, case: str) -> None:
    session = await site.session()
    refused = await logout(site, **NOT_ACCEPTED[case])
    assert (refused.status_code, refused.headers["cache-control"]) == (400, "no-store")
    assert refused.json()["error"] == "invalid_request"
    assert await is_live(site, session)
    assert (await logout(site)).status_code == 200
    assert not await is_live(site, session)


async def test_id_token_is_no_logout_token(site: Site) -> None:
    session = await site.session()
    id_token = site.provider.logout_token(typ="JWT", events=None, nonce="n")
    assert (await logout(site, id_token)).status_code == 400
    assert await is_live(site, session)


async def test_token_of_one_provider_is_refused_at_the_endpoint_of_another(site: Site) -> None:
    session = await site.session()
    assert (await logout(site, path="/backchannel-logout/partner")).status_code == 400
    assert (await logout(site, path="/backchannel-logout/missing")).status_code == 400
    assert await is_live(site, session)


async def test_login_service_has_no_back_channel(site: Site) -> None:
    upstreams = site.app.node.core.oauth.login.upstreams
    upstreams.current = {**upstreams.current, "inhouse": upstreams.challenge("https://login.example/in")}
    assert (await logout(site, path="/backchannel-logout/inhouse")).status_code == 400


async def test_request_needs_a_form_with_the_token(site: Site) -> None:
    assert (await site.app.post(PATH, {})).status_code == 400
    assert (await site.app.post(f"{PATH}?logout_token=x", {"logout_token": "x"})).status_code == 400
    assert (await site.app.http.post(PATH, json={"logout_token": "x"})).status_code == 400
    assert (await site.app.http.get(PATH)).status_code == 405


async def test_many_sessions_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_service.core.administration.external_revocations._PAGE", 2)
    ended = [await site.session() for _ in range(5)]
    assert (await logout(site)).status_code == 200
    assert not any([await is_live(site, each) for each in ended])
    ended = [await site.session() for _ in range(5)]
    assert (await logout(site, sid=None, sub="alice")).status_code == 200
    assert not any([await is_live(site, each) for each in ended])

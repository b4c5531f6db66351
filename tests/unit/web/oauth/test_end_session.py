"""The logout endpoint (OpenID Connect RP-Initiated Logout 1.0), and what foreign sites try there."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.unit.core.node import SYSTEM, Node
from tests.unit.core.virtual_time import ManualClock
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.logout.end_session import RETURN_TTL
from token_service.core.sessions.session import Session
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationReason

ISSUER = "https://issuer.example"
BACK = "https://app.example/bye?x=1"
KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID})


class UpstreamWithLogout:
    """An upstream with a logout page."""

    url: str | None = "https://idp.example/logout"

    def __init__(self) -> None:
        self.asked: list[tuple[Session, str]] = []

    async def logout_url(self, session: Session, return_to: str, state: str) -> str | None:
        self.asked.append((session, return_to))
        return None if self.url is None else f"{self.url}?state={state}"


@pytest.fixture
async def web(app: OAuthApp) -> OAuthApp:
    await app.register_public("app", post_logout_redirect_uris=(BACK,), scopes=())
    await app.register_public("other", post_logout_redirect_uris=("https://other.example/",), scopes=())
    return app


async def issue(app: OAuthApp, **command: Any) -> IssuedTokens:
    return await app.node.issue(client_id="app", scopes=("openid",), kinds=KINDS, **command)


async def ask(app: OAuthApp, method: str = "GET", **parameters: str) -> httpx.Response:
    if method == "GET":
        return await app.http.get("/end_session", params=parameters)
    return await app.http.post("/end_session", data=parameters)


async def reason_of(app: OAuthApp, issued: IssuedTokens) -> RevocationReason | None:
    """Return the reason for which the session was revoked; None: it was not."""
    session = await app.node.session(issued.session_id)
    return None if session.revoke_time is None else session.revoke_reason


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_logout_ends_the_session_and_returns_to_the_client(web: OAuthApp, method: str) -> None:
    issued = await issue(web)
    answer = await ask(
        web,
        method,
        id_token_hint=issued.id_token,
        post_logout_redirect_uri=BACK,
        state="s &1",
        client_id="app",
        ui_locales="nb",
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BACK}&state=s+%261")
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert await reason_of(web, issued) is RevocationReason.LOGOUT
    found = await web.node.validate(issued.access_token)
    assert found.reason is not None
    (event,) = web.node.audit.named("revoked")
    assert (event["target"], event["value"], event["reason"]) == ("SESSION", issued.session_id, "LOGOUT")
    assert event["actor"] == "caller:app"


async def test_expired_hint_counts(web: OAuthApp) -> None:
    issued = await issue(web)
    web.clock.elapsed += 5 * 86400
    answer = await ask(web, id_token_hint=issued.id_token)
    assert (answer.status_code, "You are logged out" in answer.text) == (200, True)
    assert await reason_of(web, issued) is RevocationReason.LOGOUT


async def test_hint_of_a_retired_key_counts(web: OAuthApp) -> None:
    issued = await issue(web)
    key = await web.node.key_manager.prepare(SYSTEM, None)
    await web.node.key_manager.activate(SYSTEM, key.key_id, force=True)
    assert (await issue(web)).id_token.split(".")[0] != issued.id_token.split(".")[0]
    await ask(web, id_token_hint=issued.id_token)
    assert await reason_of(web, issued) is RevocationReason.LOGOUT


async def test_second_logout_returns_to_the_client_too(web: OAuthApp) -> None:
    issued = await issue(web)
    for _ in range(2):
        answer = await ask(web, id_token_hint=issued.id_token, post_logout_redirect_uri=BACK)
        assert answer.headers["location"] == BACK
    assert len(web.node.audit.named("revoked")) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/bye",
        "https://app.example/bye?x=1#",
        "https://APP.example/bye?x=1",
        "https://other.example/",
        "https://evil.example/",
        "javascript:alert(1)",
        "",
    ],
)
async def test_browser_goes_only_to_a_registered_uri(web: OAuthApp, uri: str) -> None:
    issued = await issue(web)
    answer = await ask(web, id_token_hint=issued.id_token, post_logout_redirect_uri=uri, state="s")
    assert (answer.status_code, "location" in answer.headers) == (200, False)
    assert await reason_of(web, issued) is RevocationReason.LOGOUT


async def test_no_session_ends_and_no_browser_is_redirected_without_a_usable_hint(web: OAuthApp) -> None:
    issued = await issue(web)
    head, payload, signature = issued.id_token.split(".")
    stranger = await Node(ManualClock(), seed=2).start()
    foreign = await stranger.issue(client_id="app", scopes=("openid",), kinds=KINDS)
    for_itself = await issue(web, audience=("app",))
    hints = ["", "x", f"{head}.{payload}.{signature[::-1]}", foreign.id_token, issued.access_token]
    for hint in [*hints, issued.refresh_token, for_itself.access_token]:
        for client_id in ("", "app"):
            answer = await ask(
                web, id_token_hint=hint, client_id=client_id, post_logout_redirect_uri=BACK, state="s"
            )
            assert (answer.status_code, "location" in answer.headers) == (400, False)
            assert "not logged out" in answer.text
    assert await reason_of(web, issued) is None
    assert web.node.audit.named("revoked") == []


async def test_client_id_must_be_the_client_of_the_hint(web: OAuthApp) -> None:
    issued = await issue(web)
    answer = await ask(
        web,
        id_token_hint=issued.id_token,
        client_id="other",
        post_logout_redirect_uri="https://other.example/",
    )
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert await reason_of(web, issued) is None


async def test_page_can_be_neither_framed_nor_scripted(web: OAuthApp) -> None:
    answer = await ask(web)
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"


async def test_upstream_logs_out_and_sends_the_browser_back(web: OAuthApp) -> None:
    upstream: Any = UpstreamWithLogout()
    web.node.core.login.upstreams.current = {"corporate": upstream}
    issued = await issue(web, upstream="corporate", upstream_session="there-1")
    answer = await ask(web, id_token_hint=issued.id_token, post_logout_redirect_uri=BACK, state="s")
    location = answer.headers["location"]
    assert location.startswith("https://idp.example/logout?state=")
    assert await reason_of(web, issued) is RevocationReason.LOGOUT
    ((session, return_to),) = upstream.asked
    assert (session.upstream_session, return_to) == ("there-1", f"{ISSUER}/end_session/return")
    (state,) = parse_qs(urlsplit(location).query)["state"]
    back = await web.http.get(return_to, params={"state": state})
    assert (back.status_code, back.headers["location"]) == (303, f"{BACK}&state=s")
    web.clock.elapsed += RETURN_TTL
    late = await web.http.get(return_to, params={"state": state})
    assert (late.status_code, "You are logged out" in late.text) == (200, True)


@pytest.mark.parametrize("state", ["", "https://evil.example/", "AQAAAAA"])
async def test_way_back_goes_only_where_this_service_has_sealed(web: OAuthApp, state: str) -> None:
    answer = await web.http.get("/end_session/return", params={"state": state})
    assert (answer.status_code, "location" in answer.headers) == (400, False)


async def test_upstream_without_a_logout_page_is_left_out(web: OAuthApp) -> None:
    upstream: Any = UpstreamWithLogout()
    upstream.url = None
    web.node.core.login.upstreams.current = {"corporate": upstream}
    issued = await issue(web, upstream="corporate")
    answer = await ask(web, id_token_hint=issued.id_token, post_logout_redirect_uri=BACK)
    assert answer.headers["location"] == BACK
    challenge = web.node.core.login.upstreams.challenge("https://login.example/in")
    assert await challenge.logout_url(await web.node.session(issued.session_id), "x", "y") is None

"""The login to the console by the code flow of the same service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.unit.core.node import ISSUER
from tests.unit.web.console.login_scene import CALLBACK, CLIENT, LoginScene
from token_service.core.access.caller import Caller
from token_service.core.access.operators import parse_operators
from token_service.core.clients.client import AUTHORIZATION_CODE
from token_service.core.policies.rights import Permission
from token_service.core.revocation.commands import RevokeCommand
from token_service.tokens.revocation import RevocationTarget
from token_service.web.console.login import LOGIN_TTL, is_own_page
from token_service.web.console.sessions import MAX_AGE


@pytest.fixture
async def scene() -> AsyncIterator[LoginScene]:
    running = await LoginScene.start()
    yield running
    await running.close()


async def test_request_without_login_goes_through_the_code_flow_and_comes_back(scene: LoginScene) -> None:
    browser = scene.browser()
    answer = await browser.get("/console/subscribers?behind=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/login?return_to=%2Fconsole%2Fsubscribers%3Fbehind%3D1"
    answer = await browser.get(answer.headers["location"])
    url = urlsplit(answer.headers["location"])
    asked = dict(parse_qsl(url.query))
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{ISSUER}/authorize"
    assert asked["scope"] == "openid revoke admin.read admin.write"
    assert (asked["redirect_uri"], asked["resource"]) == (CALLBACK, ISSUER)
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43

    answer = await browser.log_in(path="/console/subscribers?behind=1")
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0;url=/console/subscribers?behind=1"' in answer.text
    answer = await browser.get("/console/subscribers?behind=1")
    assert answer.status_code == 200
    assert "alice" in answer.text


async def test_cookies_are_of_this_host_unreadable_and_strict(scene: LoginScene) -> None:
    browser = scene.browser()
    begun = await browser.get("/console/login")
    assert re.fullmatch(
        r"__Host-console-login-[\w-]{22}=[\w-]+; HttpOnly; Max-Age=600; Path=/; SameSite=lax; Secure",
        begun.headers["set-cookie"],
    )
    done = await browser.log_in()
    session = next(each for each in done.headers.get_list("set-cookie") if each.startswith("__Host-console="))
    assert re.fullmatch(
        rf"__Host-console=[\w-]+; HttpOnly; Max-Age={int(MAX_AGE)}; Path=/; SameSite=strict; Secure", session
    )
    # The login is over, so its cookie is gone. The one of the first login is still there.
    assert len([name for name in browser.cookies if name.startswith("__Host-console-login-")]) == 1
    assert "eyJ" not in session


async def test_link_from_another_site_keeps_the_login(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    arrived = await browser.get("/console/subscribers", site="cross-site")
    assert arrived.status_code == 200
    assert "set-cookie" not in arrived.headers
    assert 'content="0;url=/console/subscribers"' in arrived.text
    assert "Connected validators" in (await browser.get("/console/subscribers")).text


async def test_part_of_a_page_leads_the_whole_page_to_the_login(scene: LoginScene) -> None:
    answer = await scene.browser().get(
        "/console/subscribers/rows",
        hx_request="true",
        hx_current_url=f"{ISSUER}/console/subscribers?behind=1",
    )
    assert answer.status_code == 401
    assert answer.text == ""
    assert answer.headers["hx-redirect"] == "/console/login?return_to=%2Fconsole%2Fsubscribers%3Fbehind%3D1"


async def test_part_of_a_malformed_page_leads_to_the_console(scene: LoginScene) -> None:
    answer = await scene.browser().get(
        "/console/subscribers/rows", hx_request="true", hx_current_url="http://["
    )
    assert answer.status_code == 401
    answer = await scene.browser().get(answer.headers["hx-redirect"])
    assert answer.headers["location"].startswith(f"{ISSUER}/authorize?")


@pytest.mark.parametrize("how", ["session", "subject", "client", "everything"])
async def test_revoked_login_ends_at_the_next_request(scene: LoginScene, how: str) -> None:
    browser = scene.browser()
    await browser.log_in()
    assert (await browser.get("/console")).status_code == 200
    (issued,) = scene.node.audit.named("token.issued")
    target = {
        "session": RevokeCommand(target=RevocationTarget.SESSION, value=str(issued["session_id"])),
        "subject": RevokeCommand(target=RevocationTarget.SUBJECT, value="alice"),
        "client": RevokeCommand(target=RevocationTarget.CLIENT, value="console"),
        "everything": RevokeCommand(target=RevocationTarget.EVERYTHING),
    }[how]
    scene.clock.elapsed += 1
    await scene.core.revoker.revoke(Caller.system(), target, scene.clock.now())
    assert (await browser.get("/console")).status_code == 303
    part = await browser.get("/console/overview/state", hx_request="true")
    assert part.status_code == 401


async def test_logout_after_the_end_of_the_login_succeeds(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    token = await browser.form_token()
    await scene.core.revoker.revoke(
        Caller.system(), RevokeCommand(target=RevocationTarget.SUBJECT, value="alice"), scene.clock.now()
    )
    answer = await browser.post("/console/logout", form_token=token)
    assert answer.status_code == 200
    assert "logged out" in answer.text


async def test_expired_access_token_is_renewed_once_for_all_tabs(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    before = browser.cookies["__Host-console"]
    scene.clock.elapsed += 3700
    tabs = [
        await browser.http.get("/console", headers={"Cookie": f"__Host-console={before}"}) for _ in range(3)
    ]
    assert [each.status_code for each in tabs] == [200] * 3
    after = [each.headers["set-cookie"].partition(";")[0] for each in tabs]
    assert before not in after
    scene.clock.elapsed += 3700
    answer = await browser.http.get("/console", headers={"Cookie": after[0]})
    assert answer.status_code == 200
    assert len(scene.node.audit.named("token.refreshed")) == 2
    assert not scene.node.audit.named("refresh_token.reused")


async def test_login_ends_after_twelve_hours(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    for _ in range(11):
        scene.clock.elapsed += 3600
        assert (await browser.get("/console")).status_code == 200
    cookie = f"__Host-console={browser.cookies['__Host-console']}"
    scene.clock.elapsed += 3600
    assert (await browser.http.get("/console", headers={"Cookie": cookie})).status_code == 303


async def test_logout_revokes_the_session(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    cookie = f"__Host-console={browser.cookies['__Host-console']}"
    answer = await browser.post("/console/logout", form_token=await browser.form_token())
    assert answer.status_code == 200
    assert "__Host-console" not in browser.cookies
    assert (await browser.http.get("/console", headers={"Cookie": cookie})).status_code == 303


async def test_logout_needs_a_form_of_the_console(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    token = await browser.form_token()
    assert (await browser.post("/console/logout", form_token="x")).status_code == 403
    assert (await browser.post("/console/logout", site="cross-site", form_token=token)).status_code == 403
    assert (await browser.get("/console")).status_code == 200


async def test_logout_form_of_another_site_keeps_the_login(scene: LoginScene) -> None:
    # Such a form comes without the strict cookie, and its answer could delete the cookie all the same.
    stranger = scene.browser()
    answer = await stranger.post("/console/logout", site="cross-site")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_subject_without_an_entry_is_told_so(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in("mallory")
    answer = await browser.get("/console")
    assert answer.status_code == 403
    assert "mallory" in answer.text
    assert "no entry of [operators]" in answer.text
    assert (await browser.post("/console/logout", form_token=await browser.form_token())).status_code == 200


async def test_changed_entries_count_at_the_next_request(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    assert (await browser.get("/console")).status_code == 200
    scene.operators = {}
    assert (await browser.get("/console")).status_code == 403


async def test_scopes_that_the_client_loses_end_permissions_at_the_next_request(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    assert (await browser.get("/console")).status_code == 200
    await scene.core.client_administration.update(
        Caller.system(), CLIENT, {"scopes": ("openid", "revoke")}, scene.clock.now()
    )
    answer = await browser.get("/console")
    assert answer.status_code == 403
    assert "his call needs the permission admin.read" in answer.text


async def test_member_of_a_group_is_an_operator(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in("erin", custom_claims={"groups": ["platform", "other"]})
    assert (await browser.get("/console")).status_code == 200


async def test_scopes_of_the_client_bound_the_permissions() -> None:
    scene = await LoginScene.start(scopes=("openid", "revoke"))
    browser = scene.browser()
    await browser.log_in()
    answer = await browser.get("/console")
    assert answer.status_code == 403
    assert "his call needs the permission admin.read" in answer.text
    browser = scene.browser()
    await browser.log_in("erin", custom_claims={"groups": ["platform"]})
    answer = await browser.get("/console")
    assert "none of the scopes that its entries in [operators] allow: admin.read, admin.write" in answer.text
    await scene.close()


async def test_callback_of_another_browser_is_refused(scene: LoginScene) -> None:
    url = await scene.browser().callback_url("mallory")
    victim = scene.browser()
    await victim.begin()
    answer = await victim.get(url, site="cross-site")
    assert answer.status_code == 400
    assert "__Host-console" not in victim.cookies


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": ""}, "iss"),
        ({"state": "x" * 43}, "state"),
        ({"code": ""}, "code"),
        ({"code": "x"}, "code"),
    ],
)
async def test_changed_callback_is_refused(scene: LoginScene, changes: dict[str, str], says: str) -> None:
    browser = scene.browser()
    url = urlsplit(await browser.callback_url())
    query = urlencode({**dict(parse_qsl(url.query)), **changes})
    answer = await browser.get(url._replace(query=query).geturl(), site="cross-site")
    assert answer.status_code == 400
    assert says in answer.text
    assert "__Host-console" not in browser.cookies


async def test_callback_counts_once(scene: LoginScene) -> None:
    browser = scene.browser()
    url = await browser.callback_url()
    cookies = browser.http.headers.get("cookie", "") or "; ".join(
        f"{n}={v}" for n, v in browser.cookies.items()
    )
    assert (await browser.get(url, site="cross-site")).status_code == 200
    again = await scene.browser().http.get(url, headers={"Cookie": cookies})
    assert again.status_code == 400
    # A code that is presented twice revokes its session.
    assert (await browser.get("/console")).status_code == 303


async def test_login_that_took_too_long_is_refused(scene: LoginScene) -> None:
    browser = scene.browser()
    url = await browser.callback_url()
    cookies = "; ".join(f"{n}={v}" for n, v in browser.cookies.items())
    scene.clock.elapsed += LOGIN_TTL
    answer = await browser.http.get(url, headers={"Cookie": cookies})
    assert answer.status_code == 400
    assert "took too long" in answer.text


async def test_refused_login_is_shown_with_its_text_escaped(scene: LoginScene) -> None:
    browser = scene.browser()
    url = urlsplit(await browser.callback_url())
    state = dict(parse_qsl(url.query))["state"]
    query = urlencode(
        {"state": state, "iss": ISSUER, "error": "access_denied", "error_description": "<b>no</b>"}
    )
    answer = await browser.get(url._replace(query=query).geturl(), site="cross-site")
    assert answer.status_code == 403
    assert "&lt;b&gt;no&lt;/b&gt;" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/console",
        "https://evil.example/console",
        "/console/../admin",
        "/consoles",
        "/console\\@evil.example",
        "/console/login",
        "/console/logout",
        "/console/callback?code=x",
        "/other",
        "/console/" + "x" * 2000,
        "/console/%2e%2e/authorize?client_id=evil",
        "/console/.%2E/authorize",
        "/console/./x",
        "/console//evil.example",
        "/console/x;y",
        "http://[",
        "//[",
        "javascript:alert(1)",
        "",
    ],
)
async def test_login_comes_back_to_pages_of_the_console_only(scene: LoginScene, path: str) -> None:
    assert is_own_page("/console/sessions?subject=alice", "/console")
    browser = scene.browser()
    answer = await browser.get(f"/console/login?{urlencode({'return_to': path})}")
    answer = await browser.get(answer.headers["location"])
    challenge = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["login_challenge"]
    answer = await browser.get(await scene.login.accept(challenge), site="cross-site")
    answer = await browser.get(answer.headers["location"], site="cross-site")
    assert 'content="0;url=/console"' in answer.text


async def test_client_that_can_not_refresh_is_refused_at_the_login() -> None:
    scene = await LoginScene.start(grant_types=(AUTHORIZATION_CODE,))
    answer = await scene.browser().get("/console/login")
    assert answer.status_code == 403
    assert "not registered for the grant type refresh_token" in answer.text
    await scene.close()


async def test_tokens_of_another_client_are_no_login(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in()
    browser.http.cookies.set("__Host-console", "x" * 100)
    assert (await browser.http.get("/console", headers={"Cookie": "__Host-console=AQAB"})).status_code == 303


async def test_refused_operator_is_audited_with_its_session(scene: LoginScene) -> None:
    browser = scene.browser()
    scene.operators = parse_operators(
        {"operators": {"o": {"subjects": ["alice"], "permissions": ["revoke"]}}}
    )
    await browser.log_in()
    assert (await browser.get("/console")).status_code == 403
    (event,) = scene.node.audit.named("permission.denied")
    (issued,) = scene.node.audit.named("token.issued")
    assert event["actor"] == "operator:alice"
    assert event["actor_session_id"] == issued["session_id"]
    assert event["reason"] == Permission.ADMIN_READ


async def test_refused_subject_is_audited_with_its_session(scene: LoginScene) -> None:
    browser = scene.browser()
    await browser.log_in("mallory")
    assert (await browser.get("/console")).status_code == 403
    (event,) = scene.node.audit.named("permission.denied")
    (issued,) = scene.node.audit.named("token.issued")
    assert event["actor"] == "operator:mallory"
    assert event["actor_session_id"] == issued["session_id"]


async def test_refusals_of_a_subject_leave_those_of_others_recorded(scene: LoginScene) -> None:
    mallory, erin = scene.browser(), scene.browser()
    await mallory.log_in("mallory")
    await erin.log_in("erin")
    for _ in range(20):
        await mallory.get("/console")
    await erin.get("/console")
    assert scene.node.audit.named("permission.denied")[-1]["actor"] == "operator:erin"

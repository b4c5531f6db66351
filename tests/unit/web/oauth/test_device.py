"""The device flow over HTTP (RFC 8628), and what attackers try on its page."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.core.node import ISSUER
from tests.unit.web.oauth.device_scene import TV, DeviceScene, challenge_of, field_of
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import DEVICE_CODE, AuthMethod
from token_service.core.grants.device_authorization import MAX_REQUESTS_OF_ADDRESS
from token_service.core.grants.device_codes import DEVICE_CODE_TTL, USER_CODE_ALPHABET
from token_service.core.login.devices import MAX_CODES_OF_ADDRESS, MAX_CODES_OF_BROWSER
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionFilter
from token_service.tokens.claims import AuthContext, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget

METADATA = "/.well-known/openid-configuration"


@pytest.fixture
async def scene(app: OAuthApp) -> DeviceScene:
    return await DeviceScene.make(app)


async def begun(scene: DeviceScene, **parameters: Any) -> tuple[str, str]:
    """Return the device code and the user code of a new device."""
    answer = (await scene.authorize(**parameters)).json()
    return answer["device_code"], answer["user_code"]


async def states(scene: DeviceScene) -> list[SessionState]:
    page = await scene.app.node.sessions.list(
        Caller.system(), SessionFilter.CLIENT, "tv", live_at=None, page_size=100, page_token=""
    )
    return [details.session.state(scene.app.clock.now()) for details in page.sessions]


async def test_device_gets_the_tokens_that_its_user_approved(scene: DeviceScene) -> None:
    answer = await scene.authorize()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    code = body["user_code"]
    assert re.fullmatch(rf"[{USER_CODE_ALPHABET}]{{4}}-[{USER_CODE_ALPHABET}]{{4}}", code)
    assert body == {
        "device_code": body["device_code"],
        "user_code": code,
        "verification_uri": f"{ISSUER}/device",
        "verification_uri_complete": f"{ISSUER}/device?user_code={code}",
        "expires_in": 600,
        "interval": 5,
    }
    assert await scene.error(body["device_code"]) == "authorization_pending"
    done = await scene.approve(
        code,
        auth_context=AuthContext("urn:mfa", ("otp",), 1700),
        custom_claims={"team": "blue"},
        identity_claims={"email": "alice@example.org"},
    )
    assert done.status_code == 200
    assert "The device is connected" in done.text
    scene.app.clock.elapsed += 5
    tokens = (await scene.poll(body["device_code"])).json()
    access = (await scene.app.node.validate(tokens["access_token"])).claims
    id_token = (await scene.app.node.validate(tokens["id_token"])).claims
    assert isinstance(access, VerifiedClaims)
    assert isinstance(id_token, VerifiedClaims)
    assert (access.subject, access.client_id, set(access.scopes)) == ("alice", "tv", {"openid", "read"})
    assert access.auth_context == AuthContext("urn:mfa", ("otp",), 1700)
    assert access.custom_claims == {"team": "blue"}
    assert access.session_id == id_token.session_id
    (session,) = scene.app.node.stores.sessions._state.sessions.values()
    assert (session.identity_claims, session.upstream) == ({"email": "alice@example.org"}, "inhouse")
    refreshed = await scene.app.post(
        "/token",
        {"grant_type": "refresh_token", "client_id": "tv", "refresh_token": tokens["refresh_token"]},
    )
    assert refreshed.status_code == 200
    scene.app.clock.elapsed += 5
    assert await scene.error(body["device_code"]) == "invalid_grant"
    assert await states(scene) == [SessionState.ACTIVE]
    assert await scene.app.node.stores.device_requests.purge(1e12, 10) == 0  # nothing stays


async def test_denied_device_gets_no_tokens(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    browser = scene.browser()
    await browser.question(user_code)
    done = await browser.decide("deny")
    assert "The device was denied" in done.text
    assert await scene.error(device_code) == "access_denied"
    scene.app.clock.elapsed += 5
    assert await scene.error(device_code) == "access_denied"
    assert await states(scene) == []


async def test_expired_device_code_is_refused_and_its_user_code_with_it(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    browser = scene.browser()
    await browser.question(user_code)
    scene.app.clock.elapsed += DEVICE_CODE_TTL - 1
    fresh = scene.browser()
    assert challenge_of(await fresh.enter(user_code))
    scene.app.clock.elapsed += 1
    assert await scene.error(device_code) == "expired_token"
    assert "This code is not valid" in (await fresh.enter(user_code)).text


async def test_approval_of_a_code_that_has_just_expired_counts_for_nothing(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    scene.app.clock.elapsed += DEVICE_CODE_TTL - 1
    browser = scene.browser()
    await browser.question(user_code)
    scene.app.clock.elapsed += 1
    late = await browser.decide("approve")
    assert late.status_code == 400
    assert "This code is not valid" in late.text
    assert await scene.error(device_code) == "expired_token"


async def test_client_that_polls_too_fast_is_slowed_down_by_five_seconds_each_time(
    scene: DeviceScene,
) -> None:
    device_code, _ = await begun(scene)
    assert await scene.error(device_code) == "authorization_pending"
    scene.app.clock.elapsed += 3
    early = await scene.poll(device_code)
    assert (early.json()["error"], early.headers["retry-after"]) == ("slow_down", "10")
    scene.app.clock.elapsed += 5
    early = await scene.poll(device_code)
    assert (early.json()["error"], early.headers["retry-after"]) == ("slow_down", "15")
    scene.app.clock.elapsed += 15
    assert await scene.error(device_code) == "authorization_pending"
    scene.app.clock.elapsed += 5
    assert await scene.error(device_code) == "slow_down"
    other, _ = await begun(scene)
    assert await scene.error(other) == "authorization_pending"


async def test_poll_that_comes_too_early_reads_no_store(scene: DeviceScene) -> None:
    device_code, _ = await begun(scene)
    await scene.poll(device_code)
    grant = scene.app.node.core.grants.device
    grant._requests = None  # type: ignore[assignment]
    assert await scene.error(device_code) == "slow_down"


async def test_two_polls_at_once_open_one_session(scene: DeviceScene) -> None:
    """At two nodes, whose paces do not know of each other."""
    other = await another_node(scene)
    device_code, user_code = await begun(scene)
    await scene.approve(user_code)
    answers = await asyncio.gather(scene.poll(device_code), other.poll(device_code))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    refused = next(answer for answer in answers if answer.status_code == 400)
    assert refused.json()["error"] == "invalid_grant"
    assert await states(scene) == [SessionState.ACTIVE]


async def another_node(scene: DeviceScene) -> DeviceScene:
    """Return another node on the same stores and of the same time."""
    app = await OAuthApp.start(stores=scene.app.node.stores, node_id="node-2", seed=2)
    app.clock.elapsed = scene.app.clock.elapsed
    return DeviceScene(app)


async def test_device_is_approved_at_one_node_and_polls_at_another(scene: DeviceScene) -> None:
    other = await another_node(scene)
    device_code, user_code = await begun(scene)
    assert await other.error(device_code) == "authorization_pending"
    assert (await other.approve(user_code)).status_code == 200
    assert (await scene.poll(device_code)).status_code == 200
    other.app.clock.elapsed += 5
    assert await other.error(device_code) == "invalid_grant"
    await other.app.close()


async def test_device_code_is_used_once_even_if_its_request_stays(scene: DeviceScene) -> None:
    """The process may end between the session and the deletion of the request."""
    device_code, user_code = await begun(scene)
    await scene.approve(user_code)
    grant = scene.app.node.core.grants.device

    async def fail(request: object) -> None:
        pass

    grant._forget = fail  # type: ignore[method-assign]
    assert (await scene.poll(device_code)).status_code == 200
    scene.app.clock.elapsed += 5
    assert await scene.error(device_code) == "invalid_grant"
    assert await states(scene) == [SessionState.ACTIVE]


async def test_subject_revoked_after_the_approval_gets_no_tokens(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    await scene.approve(user_code)
    await scene.app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert await scene.error(device_code) == "invalid_grant"
    assert SessionState.ACTIVE not in await states(scene)


async def test_subject_revoked_between_login_and_approval_gets_no_tokens(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    browser = scene.browser()
    await browser.question(user_code)
    await scene.app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    await browser.decide("approve")
    assert await scene.error(device_code) == "invalid_grant"
    assert SessionState.ACTIVE not in await states(scene)


@pytest.mark.parametrize("enabled_again", [False, True])
async def test_client_disabled_after_the_approval_gets_no_tokens(
    scene: DeviceScene, *, enabled_again: bool
) -> None:
    device_code, user_code = await begun(scene)
    await scene.approve(user_code)
    clients, now = scene.app.node.core.client_administration, scene.app.clock.now()
    await clients.disable(Caller.system(), "tv", now)
    if enabled_again:
        await clients.enable(Caller.system(), "tv", now)
        assert await scene.error(device_code) == "invalid_grant"
    else:
        assert (await scene.poll(device_code)).json()["error"] == "invalid_client"
    assert SessionState.ACTIVE not in await states(scene)


async def test_client_disabled_during_the_login_is_not_approved(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    browser = scene.browser()
    await browser.question(user_code)
    clients, now = scene.app.node.core.client_administration, scene.app.clock.now()
    await clients.disable(Caller.system(), "tv", now)
    assert (await browser.decide("approve")).status_code == 400
    await clients.enable(Caller.system(), "tv", now)
    assert await scene.error(device_code) == "authorization_pending"


async def test_subject_revoked_before_the_login_may_approve(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    await scene.app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    await scene.approve(user_code)
    assert (await scene.poll(device_code)).status_code == 200


async def test_device_code_belongs_to_its_client(scene: DeviceScene) -> None:
    await scene.app.register_public("radio", **TV)
    device_code, user_code = await begun(scene)
    await scene.approve(user_code)
    assert await scene.error(device_code, "radio") == "invalid_grant"
    assert (await scene.poll(device_code)).status_code == 200


@pytest.mark.parametrize("text", ["x", "A" * 200, "é"])
async def test_text_that_is_no_device_code_is_refused(scene: DeviceScene, text: str) -> None:
    assert await scene.error(text) == "invalid_grant"


async def test_confidential_client_must_prove_itself(scene: DeviceScene) -> None:
    await scene.app.register("box", token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC, **TV)
    refused = await scene.authorize("box")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    answer = await scene.app.post("/device_authorization", {"scope": "read"}, client_id="box")
    assert answer.status_code == 200


async def test_request_of_a_device_is_checked(scene: DeviceScene) -> None:
    await scene.app.register_public("web")
    answers = {
        "unauthorized_client": await scene.authorize("web"),
        "invalid_client": await scene.authorize("missing"),
        "invalid_scope": await scene.authorize(scope="admin"),
        "invalid_target": await scene.authorize(resource="https://other.example"),
    }
    assert {error: answer.json()["error"] for error, answer in answers.items()} == {
        error: error for error in answers
    }


async def test_resource_narrows_the_audience(scene: DeviceScene) -> None:
    await scene.app.register_public(
        "radio", **{**TV, "audiences": ("https://a.example", "https://b.example")}
    )
    code, user_code = await begun(
        scene, client_id="radio", resource=["https://a.example", "https://b.example"]
    )
    await scene.approve(user_code)
    outside = await scene.poll(code, "radio", resource="https://c.example")
    assert outside.json()["error"] == "invalid_target"
    scene.app.clock.elapsed += 5
    tokens = (await scene.poll(code, "radio", resource="https://b.example")).json()
    claims = (await scene.app.node.validate(tokens["access_token"])).claims
    assert isinstance(claims, VerifiedClaims)
    assert claims.audience == ("https://b.example",)


async def test_endpoint_is_announced_and_works_only_with_an_upstream(scene: DeviceScene) -> None:
    document = (await scene.app.http.get(METADATA)).json()
    assert document["device_authorization_endpoint"] == f"{ISSUER}/device_authorization"
    assert DEVICE_CODE in document["grant_types_supported"]
    scene.app.node.core.login.upstreams.current = {}
    document = (await scene.app.http.get(METADATA)).json()
    assert "device_authorization_endpoint" not in document
    assert DEVICE_CODE not in document["grant_types_supported"]
    assert (await scene.authorize()).json()["error"] == "unsupported_grant_type"


@pytest.mark.parametrize(
    "change", [str.lower, lambda code: code.replace("-", " "), lambda code: f" {code}. "]
)
async def test_case_and_separators_of_a_user_code_do_not_matter(scene: DeviceScene, change: Any) -> None:
    _, user_code = await begun(scene)
    assert challenge_of(await scene.browser().enter(change(user_code)))


async def test_code_in_the_url_is_filled_in_but_counts_only_when_it_is_sent(scene: DeviceScene) -> None:
    """Remote phishing (RFC 8628, section 5.4): a link alone begins nothing, and the user is asked about the device."""
    answer = (await scene.authorize()).json()
    browser = scene.browser()
    page = await browser.open(answer["verification_uri_complete"])
    assert field_of(page, "user_code") == answer["user_code"]
    assert "login_challenge" not in page.text
    assert "only if your device shows exactly this code" in page.text
    question = await browser.question(answer["user_code"])
    assert question.status_code == 200
    text = unescape(re.sub(r"<[^>]+>", " ", question.text))
    assert "Is this your device?" in text
    assert answer["user_code"] in text
    assert "tv" in text
    assert "<strong>Big &lt;TV&gt;</strong>" in question.text
    assert all(f"<code>{scope}</code>" in question.text for scope in ("openid", "read"))


@pytest.mark.parametrize("typed", ["<script>alert(1)</script>", "BBBB-BBBB", "AAAA-AAAA", "", "B" * 65])
async def test_form_shows_no_text_from_its_url_that_is_no_code(scene: DeviceScene, typed: str) -> None:
    page = await scene.app.http.get("/device", params={"user_code": typed})
    assert page.status_code == 200
    assert ("BBBB-BBBB" in page.text) == (typed == "BBBB-BBBB")
    assert "<script" not in page.text
    assert "AAAA" not in page.text


async def test_pages_can_be_neither_framed_nor_scripted(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    browser = scene.browser()
    pages = [
        await browser.open(),
        await browser.enter(user_code),
        await browser.question(user_code),
        await browser.decide("approve"),
        await browser.enter("BBBB-BBBB"),
    ]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "<script" not in page.text
        assert '<html lang="en">' in page.text


async def test_wrong_expired_and_used_codes_get_the_same_answer(scene: DeviceScene) -> None:
    _, expired = await begun(scene)
    scene.app.clock.elapsed += DEVICE_CODE_TTL
    used_device, used = await begun(scene)
    await scene.approve(used)
    assert (await scene.poll(used_device)).status_code == 200
    _, approved = await begun(scene)
    await scene.approve(approved)
    await scene.app.register_public("radio", **TV)
    _, of_disabled = await begun(scene, client_id="radio")
    now = scene.app.clock.now()
    await scene.app.node.core.client_administration.disable(Caller.system(), "radio", now)
    seen = set()
    for code in (used, approved, expired, of_disabled, "BBBB-BBBB", "no code", ""):
        page = await scene.browser().enter(code)
        plain = re.sub(r'(nonce|ticket" value)="[^"]*"', "", page.text)
        seen.add((page.status_code, plain))
    assert len(seen) == 1
    assert seen.pop()[0] == 400


async def test_decision_needs_the_cookie_of_the_browser_that_logged_in(scene: DeviceScene) -> None:
    """CSRF: a form that another site sends, or one with the ticket of another browser, decides nothing."""
    device_code, user_code = await begun(scene)
    victim, attacker = scene.browser(), scene.browser()
    await victim.question(user_code)
    form = {"ticket": victim.ticket, "decision": "approve"}
    await attacker.open()
    assert (await attacker.http.post("/device", data=form)).status_code == 400
    assert (await scene.app.http.post("/device", data=form)).status_code == 400
    of_attacker = {"ticket": attacker.ticket, "decision": "approve"}
    assert (await victim.http.post("/device", data=of_attacker)).status_code == 400
    of_code_form = {"ticket": attacker.ticket, "decision": "approve"}
    refused = await attacker.http.post("/device", data=of_code_form)
    assert "is of the form that asks for a code" in refused.text
    assert (await victim.http.post("/device", data={"decision": "approve"})).status_code == 400
    assert await scene.error(device_code) == "authorization_pending"
    assert (await victim.decide("approve")).status_code == 200


async def test_code_needs_the_form_of_the_same_browser(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    other = scene.browser()
    await other.open()
    form = {"ticket": other.ticket, "user_code": user_code}
    for _ in range(MAX_CODES_OF_ADDRESS.amount):
        refused = await scene.app.http.post("/device", data=form)
        assert refused.status_code == 400
        assert "of another browser" in refused.text
    assert challenge_of(await scene.browser().enter(user_code))  # these tries do not count


async def test_form_expires(scene: DeviceScene) -> None:
    browser = scene.browser()
    await browser.open()
    form = {"ticket": browser.ticket, "user_code": "BBBB-BBBB"}
    scene.app.clock.elapsed += 600
    refused = await browser.http.post("/device", data=form)
    assert "ticket: has expired; open the page again" in unescape(refused.text)


async def test_decision_is_never_changed(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    first, second = scene.browser(), scene.browser("192.0.2.8")
    await first.question(user_code, "alice")
    await second.question(user_code, "mallory")
    ticket = first.ticket
    assert (await first.decide("deny")).status_code == 200
    late = await second.decide("approve")
    again = await first.http.post("/device", data={"ticket": ticket, "decision": "approve"})
    assert [late.status_code, again.status_code] == [400, 400]
    assert await scene.error(device_code) == "access_denied"


async def test_login_of_a_device_is_bound_to_the_browser_that_began_it(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    victim, attacker = scene.browser(), scene.browser()
    url = await scene.accept(challenge_of(await attacker.enter(user_code)), "mallory")
    await victim.open()
    assert (await victim.open(url)).status_code == 400


async def test_login_of_a_device_gives_no_code_for_a_client(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    browser = scene.browser()
    question = await browser.question(user_code)
    assert "location" not in question.headers
    assert (await browser.open(str(question.request.url))).status_code == 400  # once


async def test_refused_login_leaves_the_device_waiting(scene: DeviceScene) -> None:
    device_code, user_code = await begun(scene)
    browser = scene.browser()
    challenge = challenge_of(await browser.enter(user_code))
    url = await scene.app.node.core.login.challenges.reject(
        Caller.system(), challenge, "the user is locked", scene.app.clock.now()
    )
    page = await browser.open(url)
    assert page.status_code == 400
    assert "the user is locked" in page.text
    assert await scene.error(device_code) == "authorization_pending"


async def test_mix_up_of_upstreams_is_refused(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    browser = scene.browser()
    url = await scene.accept(challenge_of(await browser.enter(user_code)))
    assert (await browser.open(url.replace("/callback/inhouse", "/callback/other"))).status_code == 400


async def test_guesses_of_one_browser_are_limited(scene: DeviceScene) -> None:
    browser = scene.browser()
    for _ in range(MAX_CODES_OF_BROWSER.amount):
        assert (await browser.enter("BBBB-BBBB")).status_code == 400
    _, user_code = await begun(scene)
    limited = await browser.enter(user_code)
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) > 0
    assert "too many attempts" in limited.text
    assert challenge_of(await scene.browser().enter(user_code))
    scene.app.clock.elapsed += 700
    _, user_code = await begun(scene)
    assert challenge_of(await browser.enter(user_code))


async def test_guesses_of_one_address_are_limited_whatever_its_cookies(scene: DeviceScene) -> None:
    _, user_code = await begun(scene)
    for _ in range(MAX_CODES_OF_ADDRESS.amount):
        assert (await scene.browser("192.0.2.66").enter("BBBB-BBBB")).status_code == 400
    assert (await scene.browser("192.0.2.66").enter(user_code)).status_code == 429
    assert challenge_of(await scene.browser("192.0.2.67").enter(user_code))


async def test_guesses_in_flight_at_once_are_limited(scene: DeviceScene) -> None:
    browsers = [scene.browser("192.0.2.66") for _ in range(3 * MAX_CODES_OF_ADDRESS.amount)]
    answers = await asyncio.gather(*(browser.enter("BBBB-BBBB") for browser in browsers))
    assert sum(answer.status_code == 400 for answer in answers) == MAX_CODES_OF_ADDRESS.amount


async def test_requests_of_one_address_are_limited(scene: DeviceScene) -> None:
    for _ in range(MAX_REQUESTS_OF_ADDRESS.amount):
        assert (await scene.authorize()).status_code == 200
    limited = await scene.authorize()
    assert (limited.status_code, limited.json()["reason"]) == (429, "RATE_LIMITED")
    assert await scene.app.node.stores.device_requests.purge(1e12, 1000) == MAX_REQUESTS_OF_ADDRESS.amount


async def test_policy_may_set_the_rates_of_requests() -> None:
    rates = {(Operation.AUTHORIZE_DEVICE, Bucket.CLIENT): Rate(2, 60)}
    app = await OAuthApp.start(policy=Policy(rates=rates))
    scene = await DeviceScene.make(app)
    assert [(await scene.authorize()).status_code for _ in range(3)] == [200, 200, 429]
    await app.close()


async def test_taken_user_code_is_replaced(scene: DeviceScene) -> None:
    codes = scene.app.node.core.devices.authorizations._codes
    drawn = iter(["BCDFGHJK", "BCDFGHJK", "BCDFGHJL"])
    codes.new_user_code = lambda: next(drawn)  # type: ignore[method-assign]
    assert (await begun(scene))[1] == "BCDF-GHJK"
    assert (await begun(scene))[1] == "BCDF-GHJL"


async def test_device_code_never_gets_the_approval_of_the_next_device_with_its_user_code(
    scene: DeviceScene,
) -> None:
    """A node whose clock is ahead may purge a request too early."""
    codes = scene.app.node.core.devices.authorizations._codes
    codes.new_user_code = lambda: "BCDFGHJK"  # type: ignore[method-assign]
    first, _ = await begun(scene)
    assert await scene.app.node.stores.device_requests.purge(1e12, 10) == 1
    second, user_code = await begun(scene)
    await scene.approve(user_code)
    assert await scene.error(first) == "invalid_grant"
    assert (await scene.poll(second)).status_code == 200


async def test_login_service_learns_the_client_and_the_scopes(scene: DeviceScene) -> None:
    _, user_code = await begun(scene, scope="read")
    challenge = challenge_of(await scene.browser().enter(user_code))
    login, client = await scene.app.node.core.login.challenges.get(
        Caller.system(), challenge, scene.app.clock.now()
    )
    assert client is not None
    assert (client.client_id, login.request.scopes) == ("tv", ("read",))


async def test_page_works_below_the_path_of_the_issuer() -> None:
    app = await OAuthApp.start(issuer=f"{ISSUER}/tenant")
    scene = await DeviceScene.make(app)
    answer = await app.post("/tenant/device_authorization", {"client_id": "tv", "scope": "read"})
    assert answer.json()["verification_uri"] == f"{ISSUER}/tenant/device"
    page = await scene.browser().open(
        f"/tenant/device?{urlsplit(answer.json()['verification_uri_complete']).query}"
    )
    assert 'action="/tenant/device"' in page.text
    assert parse_qs(urlsplit(answer.json()["verification_uri_complete"]).query)["user_code"][0] in page.text
    await app.close()

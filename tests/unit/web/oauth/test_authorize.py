"""The authorization endpoint with a login service of one's own, and what attackers try there (RFC 9700)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from tests.unit.web.oauth.browser_login import (
    ISSUER,
    PARAMETERS,
    REDIRECT,
    Login,
    challenge_of,
    location,
)
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE
from token_service.core.login.logins import LOGIN_TTL
from token_service.core.login.pushed import REQUEST_URI_TTL
from token_service.errors import InvalidRequestError
from token_service.tokens.claims import AuthContext, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget


async def test_browser_comes_back_with_a_code_for_the_user_of_the_login_service(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser)
    assert begun.headers["location"].startswith("https://login.example/in?login_challenge=")
    back = await browser.get(await login.accept(challenge_of(begun)))
    answer = location(back)
    assert back.headers["location"].startswith(f"{REDIRECT}?")
    assert (answer["state"], answer["iss"]) == ("s-1", ISSUER)
    tokens = (await login.exchange(answer["code"])).json()
    claims = (await login.app.node.validate(tokens["id_token"])).claims
    assert isinstance(claims, VerifiedClaims)
    assert (claims.subject, claims.payload["nonce"], claims.client_id) == ("alice", "n-1", "app")


async def test_session_keeps_the_identity_claims_and_the_upstream_of_its_login(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser, upstream="other")
    url = await login.accept(challenge_of(begun), identity_claims={"email": "a@example.org"})
    tokens = (await login.exchange(location(await browser.get(url))["code"])).json()
    claims = (await login.app.node.validate(tokens["id_token"])).claims
    assert isinstance(claims, VerifiedClaims)
    session = await login.app.node.session(claims.session_id)
    assert (session.upstream, session.upstream_session) == ("other", "")
    assert session.identity_claims == {"email": "a@example.org"}
    assert "email" not in claims.payload


async def test_login_service_learns_what_the_client_asked_for(login: Login) -> None:
    begun = await login.begin(
        login.browser(), prompt="login", max_age="60", acr_values="urn:mfa urn:pwd", login_hint="a@b.example"
    )
    asked, client = await login.challenges.get(Caller.system(), challenge_of(begun), login.app.clock.now())
    request = asked.request
    assert client is not None
    assert client.client_id == "app"
    assert (request.scopes, request.prompts, request.max_age) == (("openid", "read"), ("login",), 60)
    assert (request.acr_values, request.login_hint) == (("urn:mfa", "urn:pwd"), "a@b.example")


async def test_cookie_of_a_login_is_kept_from_scripts_and_other_hosts(login: Login) -> None:
    begun = await login.begin(login.browser())
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("__Host-login-")
    assert all(part in cookie for part in ("; HttpOnly", "; Secure", "; Path=/", "; SameSite=lax"))
    assert "Domain" not in cookie
    assert "alice" not in cookie


async def test_login_of_another_browser_is_refused(login: Login) -> None:
    """An attacker begins a login and has a victim complete it, or the reverse (RFC 9700, section 4.7)."""
    attacker, victim = login.browser(), login.browser()
    url = await login.accept(challenge_of(await login.begin(attacker)))
    refused = await victim.get(url)
    assert refused.status_code == 400
    assert "no login that this browser has begun" in refused.text
    await login.begin(victim)
    assert (await victim.get(url)).status_code == 400


async def test_verdict_counts_for_its_own_login_only(login: Login) -> None:
    browser = login.browser()
    first = await login.begin(browser)
    second = await login.begin(browser)
    of_first = urlsplit(await login.accept(challenge_of(first)))
    state = urlsplit(await login.accept(challenge_of(second))).query
    mixed = parse_qs(of_first.query)["login_verifier"][0]
    other = dict(parse_qsl(state))["state"]
    answer = location(
        await browser.get("/callback/inhouse", params={"state": other, "login_verifier": mixed})
    )
    assert answer["error"] == "invalid_grant"
    assert "code" not in answer


async def test_answer_at_the_callback_of_another_upstream_is_refused(login: Login) -> None:
    """Mix-up (RFC 9700, section 4.4)."""
    browser = login.browser()
    url = await login.accept(challenge_of(await login.begin(browser)))
    assert (await browser.get(url.replace("/callback/inhouse", "/callback/other"))).status_code == 400


async def test_a_login_is_completed_once(login: Login) -> None:
    browser = login.browser()
    url = await login.accept(challenge_of(await login.begin(browser)))
    assert "code" in location(await browser.get(url))
    assert (await browser.get(url)).status_code == 400


async def test_a_login_that_takes_too_long_ends(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser)
    url = await login.accept(challenge_of(begun))
    login.app.clock.elapsed += LOGIN_TTL
    assert (await browser.get(url)).status_code == 400
    with pytest.raises(InvalidRequestError, match="has expired"):
        await login.accept(challenge_of(begun))


async def test_refused_login_tells_the_client(login: Login) -> None:
    browser = login.browser()
    challenge = challenge_of(await login.begin(browser))
    url = await login.challenges.reject(Caller.system(), challenge, "the user is locked", 0.0)
    answer = location(await browser.get(url))
    assert answer == {
        "error": "access_denied",
        "error_description": "the user is locked",
        "iss": ISSUER,
        "state": "s-1",
    }


async def test_refused_login_without_interaction_needs_a_login(login: Login) -> None:
    """OpenID Connect Core 1.0, section 3.1.2.6: the client must be able to tell it from a refusal of the user."""
    browser = login.browser()
    challenge = challenge_of(await login.begin(browser, prompt="none"))
    url = await login.challenges.reject(Caller.system(), challenge, "", 0.0)
    assert location(await browser.get(url))["error"] == "login_required"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "missing"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": f"{REDIRECT}/"},
        {"redirect_uri": "https://app.example/cb#x"},
        {"request_uri": "urn:ietf:params:oauth:request_uri:AAAA"},
        {"request_uri": "https://evil.example/request"},
    ],
    ids=str,
)
async def test_nothing_is_sent_to_an_unknown_redirect_uri(login: Login, changes: dict[str, Any]) -> None:
    refused = await login.begin(login.browser(), **changes)
    assert refused.status_code == 400
    assert refused.headers["content-type"].startswith("text/html")
    assert "location" not in refused.headers
    assert "set-cookie" not in refused.headers
    assert "frame-ancestors 'none'" in refused.headers["content-security-policy"]
    assert refused.headers["x-frame-options"] == "DENY"


async def test_a_disabled_client_gets_a_page(login: Login) -> None:
    await login.app.node.core.client_administration.disable(Caller.system(), "app", 1.0)
    assert (await login.begin(login.browser())).status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"upstream": "missing"}, "invalid_request"),
        ({"nonce": "n" * 257}, "invalid_request"),
    ],
    ids=str,
)
async def test_client_learns_the_mistake_in_its_request(
    login: Login, changes: dict[str, Any], error: str
) -> None:
    answer = location(await login.begin(login.browser(), **changes))
    assert (answer["error"], answer["iss"], answer["state"]) == (error, ISSUER, "s-1")


async def test_a_repeated_parameter_is_refused(login: Login) -> None:
    answer = await login.browser().get("/authorize", params=[*PARAMETERS.items(), ("redirect_uri", REDIRECT)])
    assert answer.status_code == 400


async def test_a_client_of_others_needs_consent_which_this_service_does_not_ask_for(login: Login) -> None:
    await login.app.register_public(
        "theirs", grant_types=(AUTHORIZATION_CODE,), redirect_uris=(REDIRECT,), scopes=("openid", "read")
    )
    assert location(await login.begin(login.browser(), client_id="theirs"))["error"] == "consent_required"


async def test_a_redirect_uri_with_a_query_keeps_it(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser, redirect_uri="https://app.example/other?x=1")
    answer = location(await browser.get(await login.accept(challenge_of(begun))))
    assert answer["x"] == "1"
    assert "code" in answer


async def test_form_post_sends_the_answer_in_a_form_to_the_client_only(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser, response_mode="form_post", state='"><script>alert(1)</script>')
    page = await browser.get(await login.accept(challenge_of(begun)))
    assert page.status_code == 200
    assert f'action="{REDIRECT}"' in page.text
    assert "<script>alert" not in page.text
    assert "form-action https:;" in page.headers["content-security-policy"]
    assert "location" not in page.headers


async def test_a_post_of_the_request_is_answered_like_a_get(login: Login) -> None:
    browser = login.browser()
    answer = await browser.post("/authorize", data=PARAMETERS)
    assert answer.headers["location"].startswith("https://login.example/in?")


async def test_the_upstream_can_be_chosen(login: Login) -> None:
    begun = await login.begin(login.browser(), upstream="other")
    assert begun.headers["location"].startswith("https://other.example/in?tenant=a&login_challenge=")


@pytest.mark.parametrize(
    ("asked", "context", "error"),
    [
        ({"max_age": "60"}, AuthContext(auth_time=-61), "login_required"),
        ({"max_age": "60"}, AuthContext(acr="urn:mfa"), "login_required"),
        ({"max_age": "60"}, None, "login_required"),
        ({"max_age": "60"}, AuthContext(auth_time=-60), None),
        ({"prompt": "login"}, AuthContext(auth_time=-3600), "login_required"),
        ({"prompt": "login"}, AuthContext(auth_time=-1), None),
        ({"acr_values": "urn:mfa"}, AuthContext(acr="urn:pwd"), "unmet_authentication_requirements"),
        ({"acr_values": "urn:mfa"}, None, "unmet_authentication_requirements"),
        ({"acr_values": "urn:mfa urn:pwd"}, AuthContext(acr="urn:pwd"), None),
    ],
    ids=str,
)
async def test_an_authentication_that_is_older_or_weaker_than_asked_for_is_refused(
    login: Login, asked: dict[str, str], context: AuthContext | None, error: str | None
) -> None:
    """RFC 9470; an upstream may have ignored what it was asked for."""
    browser = login.browser()
    if context is not None and context.auth_time is not None:
        context = AuthContext(context.acr, auth_time=int(login.app.clock.now()) + context.auth_time - 10)
    url = await login.accept(challenge_of(await login.begin(browser, **asked)), auth_context=context)
    assert location(await browser.get(url)).get("error") == error


async def test_pushed_request_is_used_by_its_client_only(login: Login) -> None:
    pushed = await login.app.post("/par", PARAMETERS)
    assert pushed.status_code == 201
    assert pushed.json()["expires_in"] == REQUEST_URI_TTL
    uri = pushed.json()["request_uri"]
    browser = login.browser()
    begun = await browser.get("/authorize", params={"client_id": "app", "request_uri": uri, "scope": "admin"})
    asked, _ = await login.challenges.get(Caller.system(), challenge_of(begun), login.app.clock.now())
    assert asked.request.scopes == ("openid", "read")
    stolen = await browser.get("/authorize", params={"client_id": "other", "request_uri": uri})
    assert stolen.status_code == 400
    login.app.clock.elapsed += REQUEST_URI_TTL
    late = await browser.get("/authorize", params={"client_id": "app", "request_uri": uri})
    assert late.status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"request_uri": "urn:x"}, "invalid_request"),
    ],
    ids=str,
)
async def test_pushed_request_is_checked_at_once(login: Login, changes: dict[str, str], error: str) -> None:
    answer = await login.app.post("/par", {**PARAMETERS, **changes})
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_browser_keeps_few_logins(login: Login) -> None:
    browser = login.browser()
    for _ in range(7):
        await login.begin(browser)
    begun = await login.begin(browser)
    assert sum(name.startswith("__Host-login-") for name in browser.cookies) <= 4
    assert "code" in location(await browser.get(await login.accept(challenge_of(begun))))


async def test_the_subject_revoked_during_its_login_gets_no_tokens(login: Login) -> None:
    browser = login.browser()
    answer = location(await browser.get(await login.accept(challenge_of(await login.begin(browser)))))
    await login.app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert (await login.exchange(answer["code"])).json()["error"] == "invalid_grant"


async def test_the_endpoint_is_announced_only_with_an_upstream(login: Login) -> None:
    path = "/.well-known/openid-configuration"
    document = (await login.app.http.get(path)).json()
    assert document["response_types_supported"] == ["code"]
    assert document["authorization_endpoint"] == f"{ISSUER}/authorize"
    login.app.node.core.oauth.login.upstreams.current = {}
    document = (await login.app.http.get(path)).json()
    assert document["response_types_supported"] == []
    assert "authorization_endpoint" not in document
    assert location(await login.begin(login.browser()))["error"] == "invalid_request"

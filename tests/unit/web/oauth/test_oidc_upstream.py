"""Logins at an OpenID Connect provider, and what attackers and broken providers answer (RFC 9700; RFC 9207)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.support.deadline import eventually
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET
from tests.support.token_mint import private_key
from tests.unit.web.oauth.browser_login import ISSUER, location
from tests.unit.web.oauth.oidc_site import Site
from token_service.tokens.claims import VerifiedClaims

CORPORATE = f"{ISSUER}/callback/corporate"


def replaced(url: str, **changes: str | None) -> str:
    """Return a URL with other parameters; None removes one."""
    parameters = {**dict(parse_qsl(urlsplit(url).query)), **changes}
    kept = {name: value for name, value in parameters.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(kept)}"


async def test_user_of_the_provider_gets_tokens_here(site: Site) -> None:
    site.configure(
        identity_claims=["email", "locale"],
        acr={"urn:corporate:2": "mfa"},
        roles={"claim": ["realm", "roles"], "values": {"staff": "employee"}},
    )
    site.provider.claims |= {
        "email": "a@corporate.example", "acr": "urn:corporate:2", "amr": ["otp"], "auth_time": 1000,
        "realm": {"roles": ["staff", "other"]}, "phone_number": "+1",
    }  # fmt: skip
    session = await site.session()
    assert session.subject == "corporate:alice"
    assert session.identity_claims == {"email": "a@corporate.example"}
    assert (session.upstream, session.upstream_session) == ("corporate", "session-1")
    assert session.custom_claims == {"roles": ["employee"]}
    context = session.auth_context
    assert context is not None
    assert (context.acr, context.amr, context.auth_time) == ("mfa", ("otp",), 1000)


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_id_token_may_have_another_algorithm(site: Site, algorithm: str) -> None:
    site.provider.algorithm = algorithm
    assert "code" in await site.answer()
    site.provider.claims["at_hash"] = "x" * 22
    assert "at_hash" in (await site.answer())["error_description"]


async def test_provider_gets_what_the_client_asked_for(site: Site) -> None:
    site.configure(scopes=["openid", "email"], acr={"urn:2": "mfa", "urn:3": "mfa", "urn:1": "pwd"})
    url = await site.url(
        site.browser(), prompt="select_account login", max_age="60", acr_values="mfa other pwd",
        login_hint="a@b.example",
    )  # fmt: skip
    asked = site.provider.asked(url)
    assert url.startswith(f"{site.provider.issuer}/authorize?tenant=1&")
    assert {name: asked[name] for name in ("scope", "prompt", "max_age", "acr_values", "login_hint")} == {
        "scope": "openid email",
        "prompt": "select_account login",
        "max_age": "60",
        "acr_values": "urn:2 urn:3 urn:1",
        "login_hint": "a@b.example",
    }
    assert (asked["client_id"], asked["redirect_uri"]) == (CLIENT_ID, CORPORATE)
    again = site.provider.asked(await site.url(site.browser()))
    assert all(asked[name] != again[name] for name in ("state", "nonce", "code_challenge"))
    assert {"prompt", "max_age", "acr_values", "login_hint"}.isdisjoint(again)


async def test_new_authentication_makes_the_provider_tell_its_time(site: Site) -> None:
    assert site.provider.asked(await site.url(site.browser(), prompt="login"))["max_age"] == "600"
    assert "code" in await site.answer(prompt="login")
    site.provider.claims["auth_time"] = int(site.app.clock.now()) - 3600
    assert (await site.answer(prompt="login"))["error"] == "login_required"


async def test_classes_that_the_provider_lacks_are_refused_at_once(site: Site) -> None:
    site.configure(acr={"urn:2": "mfa"})
    asked = len(site.provider.requests)
    assert location(await site.begin(site.browser(), acr_values="urn:2 pwd"))["error"] == (
        "unmet_authentication_requirements"
    )
    assert len(site.provider.requests) == asked


@pytest.mark.parametrize(
    ("more", "there", "here"),
    [
        ({}, "urn:2", "mfa"),
        ({}, "urn:9", None),
        ({"pass_acr": True}, "urn:9", "urn:9"),
        ({"pass_acr": True}, "urn:2", "mfa"),
    ],
)
async def test_class_keeps_its_name_only_if_allowed(
    site: Site, more: dict[str, bool], there: str, here: str | None
) -> None:
    site.configure(acr={"urn:2": "mfa"}, **more)
    site.provider.claims["acr"] = there
    context = (await site.session()).auth_context
    assert (context.acr if context else None) == here


async def test_userinfo_adds_claims_about_the_same_user(site: Site) -> None:
    site.configure(userinfo=True, identity_claims=["email", "name"])
    site.provider.claims |= {"name": "Alice"}
    site.provider.userinfo = {"sub": "alice", "email": "a@b.example", "name": "Eve", "acr": "x", "sid": "y"}
    session = await site.session()
    assert session.identity_claims == {"email": "a@b.example", "name": "Alice"}
    assert (session.auth_context, session.upstream_session) == (None, "session-1")
    site.provider.userinfo = {"sub": "eve", "email": "e@b.example"}
    refused = await site.answer()
    assert refused["error"] == "invalid_grant"
    assert "another user" in refused["error_description"]


HOUR = 3600
BAD_TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"claims": {"iss": "https://other.example"}}, "iss is another issuer"),
    "no issuer": ({"claims": {"iss": None}}, "iss is another issuer"),
    "another audience": ({"claims": {"aud": "other"}}, "aud is another client"),
    "no audience": ({"claims": {"aud": None}}, "aud is another client"),
    "two audiences without azp": ({"claims": {"aud": [CLIENT_ID, "other"]}}, "azp is another client"),
    "another azp": ({"claims": {"azp": "other"}}, "azp is another client"),
    "another nonce": ({"claims": {"nonce": "n" * 43}}, "nonce is of another login"),
    "no nonce": ({"claims": {"nonce": None}}, "nonce is of another login"),
    "a nonce that is no text": ({"claims": {"nonce": 5}}, "nonce is of another login"),
    "no subject": ({"claims": {"sub": None}}, "sub is missing"),
    "an empty subject": ({"claims": {"sub": ""}}, "sub is missing"),
    "a long subject": ({"claims": {"sub": "s" * 300}}, "subject"),
    "no iat": ({"claims": {"iat": None}}, "iat is missing"),
    "an old iat": ({"age": {"iat": -HOUR}}, "iat is before the login began"),
    "a future iat": ({"age": {"iat": HOUR}}, "iat is ahead"),
    "an expired token": ({"age": {"exp": -1}}, "has expired"),
    "no expiry": ({"claims": {"exp": None}}, "exp is missing"),
    "a far expiry": ({"age": {"exp": 30 * HOUR}}, "exp is more than"),
    "a future auth_time": ({"age": {"auth_time": HOUR}}, "auth_time is no time in the past"),
    "an auth_time that is no number": ({"claims": {"auth_time": "x"}}, "auth_time is no time"),
    "another at_hash": ({"claims": {"at_hash": "x" * 22}}, "at_hash is of another access token"),
    "at_hash without access token": ({"answer": {"access_token": None}}, "at_hash is of another"),
    "another key": ({"signing_key": private_key("ES256", "thief")}, "signature"),
    "a shared secret": ({"signing_key": CLIENT_SECRET * 4, "headers": {"alg": "HS256"}}, "alg is none"),
    "no signature": ({"signing_key": "", "headers": {"alg": "none"}}, "alg is none"),
    "an unknown key": ({"headers": {"kid": "other"}}, "no key"),
    "another type": ({"headers": {"typ": "at+jwt"}}, "typ"),
    "a logout token": ({"headers": {"typ": "logout+jwt"}}, "typ"),
    "no ID token": ({"answer": {"id_token": None}}, "no ID token"),
    "no JWT": ({"answer": {"id_token": "x.y"}}, "ID token"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
async def test_each_defect_of_an_id_token_is_refused(site: Site, case: str) -> None:
    changes, problem = BAD_TOKENS[case]
    assert "code" in await site.answer()
    provider = site.provider
    provider.claims |= changes.get("claims", {})
    provider.claims |= {
        name: int(site.app.clock.now()) + delta for name, delta in changes.get("age", {}).items()
    }
    provider.headers, provider.answer = changes.get("headers", {}), changes.get("answer", {})
    provider.signing_key = changes.get("signing_key")
    refused = await site.answer()
    assert (refused["error"], refused["state"], refused["iss"]) == ("invalid_grant", "s-1", ISSUER)
    assert problem in refused["error_description"]
    assert "code" not in refused


async def test_missing_auth_time_is_refused_only_with_max_age(site: Site) -> None:
    site.provider.claims["auth_time"] = None
    assert "code" in await site.answer()
    assert "auth_time is missing" in (await site.answer(max_age="60"))["error_description"]


async def test_further_audience_needs_the_authorized_party(site: Site) -> None:
    site.provider.claims |= {"aud": ["other", CLIENT_ID], "azp": CLIENT_ID}
    assert "code" in await site.answer()


async def test_user_that_would_be_the_client_is_refused(site: Site) -> None:
    site.configure(subject="{sub}")
    site.provider.claims["sub"] = "app"
    assert "the client itself" in (await site.answer())["error_description"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"iss": None}, "lacks iss"),
        ({"iss": "https://other.example"}, "iss is another issuer"),
        ({"iss": ""}, "iss"),
        ({"code": None}, "no code"),
        ({"code": "guessed"}, "does not accept its code"),
    ],
    ids=str,
)
async def test_each_defect_of_a_response_is_refused(
    site: Site, changes: dict[str, str | None], problem: str
) -> None:
    browser = site.browser()
    back = await site.back(await site.url(browser))
    refused = location(await browser.get(replaced(back, **changes)))
    assert refused["error"] == "invalid_grant"
    assert problem in refused["error_description"]


async def test_issuer_may_be_missing_if_the_provider_does_not_announce_it(site: Site) -> None:
    site.provider.metadata["authorization_response_iss_parameter_supported"] = False
    browser = site.browser()
    assert "code" in location(await browser.get(replaced(await site.back(await site.url(browser)), iss=None)))
    back = await site.back(await site.url(browser))
    assert "code" not in location(await browser.get(replaced(back, iss="https://other.example")))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("access_denied", "access_denied"),
        ("login_required", "login_required"),
        ("interaction_required", "login_required"),
        ("account_selection_required", "login_required"),
        ("consent_required", "consent_required"),
        ("unmet_authentication_requirements", "unmet_authentication_requirements"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("server_error", "temporarily_unavailable"),
        ("invalid_scope", "temporarily_unavailable"),
        ("<script>", "temporarily_unavailable"),
    ],
)
async def test_error_of_the_provider_reaches_the_client_without_its_text(
    site: Site, theirs: str, ours: str
) -> None:
    browser = site.browser()
    back = await site.back(await site.url(browser, response_mode="form_post"))
    page = await browser.get(
        replaced(back, code=None, error=theirs, error_description="<script>alert(1)</script> evil.example")
    )
    assert f'value="{ours}"' in page.text
    assert "evil.example" not in page.text
    assert "alert(1)" not in page.text


async def test_error_from_elsewhere_does_not_count(site: Site) -> None:
    browser = site.browser()
    back = await site.back(await site.url(browser))
    refused = location(
        await browser.get(replaced(back, code=None, error="access_denied", iss="https://evil.example"))
    )
    assert refused["error"] == "invalid_grant"


async def test_answer_of_one_provider_is_refused_at_the_callback_of_another(site: Site) -> None:
    """Mix-up (RFC 9700, section 4.4): the same parameters, also with the state of a login at the other provider."""
    browser = site.browser()
    at_corporate = await site.back(await site.url(browser))
    at_partner = await site.back(await site.url(browser, upstream="partner"), site.partner)
    assert (await browser.get(at_corporate.replace("/corporate", "/partner"))).status_code == 400
    stolen = dict(parse_qsl(urlsplit(at_corporate).query))
    asked = len(site.partner.requests)
    refused = location(await browser.get(replaced(at_partner, code=stolen["code"], iss=stolen["iss"])))
    assert "iss is another issuer" in refused["error_description"]
    assert len(site.partner.requests) == asked, "the code was sent to the other provider"


async def test_code_of_another_login_is_refused(site: Site) -> None:
    """Code injection (RFC 9700, section 4.5): the verifier is of the login that the code came from."""
    browser, attacker = site.browser(), site.browser()
    stolen = dict(parse_qsl(urlsplit(await site.back(await site.url(browser))).query))["code"]
    own = await site.back(await site.url(attacker))
    refused = location(await attacker.get(replaced(own, code=stolen)))
    assert "does not accept its code" in refused["error_description"]


async def test_callback_that_is_replayed_gives_no_second_code(site: Site) -> None:
    browser = site.browser()
    back = await site.back(await site.url(browser))
    cookies = dict(browser.cookies)
    assert "code" in location(await browser.get(back))
    assert (await browser.get(back)).status_code == 400
    for name, value in cookies.items():
        browser.cookies.set(name, value)
    refused = location(await browser.get(back))
    assert (refused["error"], "code" in refused) == ("invalid_grant", False)


async def test_login_after_a_rotation_of_keys_succeeds(site: Site) -> None:
    assert "code" in await site.answer()
    site.provider.key, site.provider.published = "provider-2", ["provider-1", "provider-2"]
    site.app.clock.elapsed += 60
    assert "code" in await site.answer()
    site.provider.key, site.provider.published = "provider-1", ["provider-2"]
    site.app.clock.elapsed += 3600
    assert (await site.answer())["error"] == "invalid_grant"


async def test_secret_is_read_at_each_login(site: Site) -> None:
    site.secret.write_text("wrong")
    refused = await site.answer()
    assert refused["error"] == "temporarily_unavailable"
    assert "script" not in refused["error_description"]
    site.secret.write_text(CLIENT_SECRET)
    assert "code" in await site.answer()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/token", 500, b"{}"),
        ("/token", 302, b"{}"),
        ("/token", 200, b"[]"),
        ("/token", 200, b"<html>"),
        ("/token", 400, b'{"error": "invalid_client"}'),
        ("/token", 200, b" " * 600_000),
        ("/userinfo", 401, b"{}"),
        ("/userinfo", 200, b"[]"),
        ("/jwks", 500, b"{}"),
    ],
    ids=lambda value: value if not isinstance(value, bytes) else value[:12].decode(),
)
async def test_broken_provider_is_an_upstream_that_is_unavailable(
    site: Site, path: str, status: int, body: bytes
) -> None:
    site.configure(userinfo=True)
    site.provider.raw[path] = (status, body)
    refused = await site.answer()
    assert refused["error"] == "temporarily_unavailable"
    assert "127.0.0.1" not in refused["error_description"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"}, {"token_endpoint": None}, {"authorization_endpoint": ""},
        {"authorization_endpoint": "javascript:alert(1)"}, {"token_endpoint": "https://u:p@x.example/"},
        {"token_endpoint": 5}, {"authorization_endpoint": "https://x.example/#a"},
    ],
    ids=str,
)  # fmt: skip
async def test_unusable_metadata_are_refused(site: Site, metadata: dict[str, Any]) -> None:
    site.provider.metadata = metadata
    assert location(await site.begin(site.browser()))["error"] == "temporarily_unavailable"


async def test_provider_that_does_not_answer_delays_no_other_one(site: Site) -> None:
    site.provider.open.clear()
    waiting = asyncio.create_task(site.begin(site.browser()))
    await eventually(lambda: "/.well-known/openid-configuration" in site.provider.requests)
    begun = await site.begin(site.browser(), upstream="partner")
    assert begun.headers["location"].startswith(site.partner.issuer)
    assert not waiting.done()
    site.provider.open.set()
    assert (await waiting).headers["location"].startswith(site.provider.issuer)


async def test_browser_logs_out_at_the_provider(site: Site) -> None:
    session = await site.session()
    url = await site.corporate.logout_url(session, f"{ISSUER}/signed-out", "s-9")
    assert url is not None
    assert url.startswith(f"{site.provider.issuer}/logout?")
    assert site.provider.asked(url) == {
        "client_id": CLIENT_ID,
        "post_logout_redirect_uri": f"{ISSUER}/signed-out",
        "state": "s-9",
        "logout_hint": "session-1",
    }
    site.provider.metadata["end_session_endpoint"] = ""
    site.configure()
    assert await site.corporate.logout_url(session, f"{ISSUER}/signed-out", "s-9") is None


async def test_tokens_tell_how_the_user_was_authenticated(site: Site) -> None:
    site.configure(pass_acr=True)
    site.provider.claims["acr"] = "urn:2"
    answer = await site.answer(acr_values="urn:2")
    tokens = (await site.exchange(answer["code"])).json()
    claims = (await site.app.node.validate(tokens["id_token"])).claims
    assert isinstance(claims, VerifiedClaims)
    assert (claims.subject, claims.payload["acr"]) == ("corporate:alice", "urn:2")

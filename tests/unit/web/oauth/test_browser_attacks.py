"""Attacks of RFC 9700 on the browser flows, a section each, besides those in `test_authorize`."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.unit.web.oauth.browser_login import (
    CHALLENGE,
    ISSUER,
    PARAMETERS,
    REDIRECT,
    VERIFIER,
    Login,
    challenge_of,
    location,
)
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE
from token_service.core.clients.documents import DocumentRules, FetchedDocument
from token_service.core.login.pushed import PREFIX
from token_service.core.login.requests import MAX_STATE
from token_service.tokens import strict_json
from token_service.tokens.claims import AuthContext
from token_service.web.oauth.login_cookies import MAX_COOKIES, MAX_LOGINS

MAX_HEADERS = 16 * 1024
"""Bytes of headers that common proxies and servers accept."""


async def code_for(login: Login, browser: httpx.AsyncClient, **asked: Any) -> str:
    return location(await browser.get(await login.accept(challenge_of(await login.begin(browser, **asked)))))[
        "code"
    ]


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb/../evil",
        "https://app.example/cb%2f..%2fevil",
        "https://app.example/cb?next=https://evil.example",
        "https://app.example/cb?",
        "https://app.example:443/cb",
        "https://APP.example/cb",
        "https://app.example./cb",
        "https://evil.app.example/cb",
        "https://app.example.evil.example/cb",
        "https://app.example@evil.example/cb",
        "https://evil.example\\@app.example/cb",
        "http://app.example/cb",
        "https:app.example/cb",
        "//app.example/cb",
        "javascript:alert(1)//https://app.example/cb",
        "https://app.example/cb\r\nSet-Cookie: a=b",
        "https://app.example/cb\x00",
        " https://app.example/cb",
        "https://аpp.example/cb",  # noqa: RUF001  # a Cyrillic letter
        f"{REDIRECT},{REDIRECT}",
    ],
)
@pytest.mark.parametrize("pushed", [False, True])
async def test_4_1_redirect_uri_is_compared_exactly(login: Login, uri: str, *, pushed: bool) -> None:
    if pushed:
        refused = await login.app.post("/par", {**PARAMETERS, "redirect_uri": uri})
        assert refused.json()["error"] == "invalid_request"
        return
    refused = await login.begin(login.browser(), redirect_uri=uri)
    assert refused.status_code == 400
    assert "location" not in refused.headers
    assert "set-cookie" not in refused.headers


async def test_4_1_3_redirect_uri_of_the_code_counts_at_the_token_endpoint(login: Login) -> None:
    code = await code_for(login, login.browser())
    other = await login.exchange(code, redirect_uri="https://app.example/other?x=1")
    assert other.json()["error"] == "invalid_grant"
    assert (await login.exchange(code)).status_code == 200


async def test_4_2_4_3_no_answer_leaks_by_referrer_or_history(login: Login) -> None:
    """Each answer that a browser sees forbids the referrer and is not stored, with or without a code."""
    browser = login.browser()
    begun = await login.begin(browser)
    answers = [
        begun,
        await browser.get(await login.accept(challenge_of(begun))),
        await login.begin(browser, client_id="missing"),
        await login.begin(browser, scope="admin"),
        await browser.get("/callback/inhouse?state=x"),
    ]
    begun = await login.begin(browser, response_mode="form_post")
    answers.append(await browser.get(await login.accept(challenge_of(begun))))
    for answer in answers:
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


async def test_4_2_pages_load_nothing_and_show_no_parameter_of_the_request(login: Login) -> None:
    refused = await login.begin(login.browser(), client_id="missing", state="s-secret", nonce="n-secret")
    assert not re.search(r"(?:src|href)=", refused.text)
    assert "secret" not in refused.text


async def test_4_4_every_answer_names_the_issuer_and_discovery_says_so(login: Login) -> None:
    browser = login.browser()
    failed = await login.begin(browser, scope="admin")
    begun = await login.begin(browser)
    done = await browser.get(await login.accept(challenge_of(begun)))
    assert location(failed)["iss"] == location(done)["iss"] == ISSUER
    begun = await login.begin(browser, response_mode="form_post")
    form = await browser.get(await login.accept(challenge_of(begun)))
    assert f'name="iss" value="{ISSUER}"' in form.text
    document = (await login.app.http.get("/.well-known/openid-configuration")).json()
    assert document["authorization_response_iss_parameter_supported"] is True


async def test_4_5_injected_code_fails_by_the_verifier_and_stays_with_its_owner(login: Login) -> None:
    """An attacker puts a stolen code into a login of his own at the same client."""
    code = await code_for(login, login.browser())
    stolen = await login.exchange(code, code_verifier="a" * 43)
    assert stolen.json()["error"] == "invalid_grant"
    assert (await login.exchange(code)).status_code == 200


async def test_4_5_nonce_in_the_id_token_is_that_of_the_request(login: Login) -> None:
    """A client that compares the nonce notices a code of another login."""
    code = await code_for(login, login.browser(), nonce="n-of-the-victim")
    tokens = (await login.exchange(code, nonce="n-of-the-attacker")).json()
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert claims["nonce"] == "n-of-the-victim"


async def test_4_5_code_that_was_used_is_refused_and_its_tokens_end(login: Login) -> None:
    code = await code_for(login, login.browser())
    tokens = (await login.exchange(code)).json()
    assert (await login.exchange(code)).json()["error"] == "invalid_grant"
    assert (await login.app.node.validate(tokens["access_token"])).reason is not None


async def test_4_7_cookie_of_an_attacker_does_not_complete_a_login_of_the_victim(login: Login) -> None:
    """Session fixation: an attacker who can set a cookie plants the cookie of his login under another name."""
    attacker, victim = login.browser(), login.browser()
    begun = await login.begin(attacker)
    of_victim = await login.begin(victim)
    (planted,) = [value for name, value in attacker.cookies.items() if "login-" in name]
    (name,) = [name for name in victim.cookies if "login-" in name]
    url = await login.accept(challenge_of(of_victim), "victim")
    refused = await victim.get(url, headers={"cookie": f"{name}={planted}"})
    assert refused.status_code == 400
    url = await login.accept(challenge_of(begun), "attacker")
    assert (await victim.get(url)).status_code == 400


async def test_4_7_states_swapped_between_two_tabs_complete_neither(login: Login) -> None:
    browser = login.browser()
    urls = [
        urlsplit(await login.accept(challenge_of(await login.begin(browser, state=state))))
        for state in ("s-1", "s-2")
    ]
    one, two = (dict(parse_qsl(url.query)) for url in urls)
    for state, verdict in ((one, two), (two, one)):
        query = {"state": state["state"], "login_verifier": verdict["login_verifier"]}
        answer = location(await browser.get("/callback/inhouse", params=query))
        assert answer["error"] == "invalid_grant"
        assert "code" not in answer


async def test_4_7_login_of_another_issue_of_the_cookie_is_refused(login: Login) -> None:
    """The value of a cookie opens for its purpose only: no code, request or challenge is one."""
    browser = login.browser()
    begun = await login.begin(browser)
    challenge = challenge_of(begun)
    url = await login.accept(challenge)
    code = await code_for(login, login.browser())
    pushed = (await login.app.post("/par", PARAMETERS)).json()["request_uri"].removeprefix(PREFIX)
    (name,) = [name for name in browser.cookies if "login-" in name]
    for value in (challenge, code, pushed, "", "x", "é".encode().decode("latin-1")):
        refused = await login.browser().get(url, headers={b"cookie": f"{name}={value}".encode("latin-1")})
        assert refused.status_code == 400


async def test_4_7_fifty_cookies_neither_end_a_login_nor_grow_the_headers(login: Login) -> None:
    """Cookie tossing: other pages of the domain, or many abandoned logins, fill the browser with cookies."""
    browser = login.browser()
    begun = await login.begin(browser)
    ((name, value),) = [each for each in browser.cookies.items() if "login-" in each[0]]
    tossed = [f"__Host-login-{n:022}=x" for n in range(50)]
    url = await login.accept(challenge_of(begun))
    done = await login.browser().get(url, headers={"cookie": "; ".join([*tossed, f"{name}={value}"])})
    assert "code" in location(done)
    next_login = await login.browser().get(
        "/authorize", params=PARAMETERS, headers={"cookie": "; ".join(tossed)}
    )
    cookies = next_login.headers.get_list("set-cookie")
    assert sum("Max-Age=0" in cookie for cookie in cookies) == len(tossed) - MAX_LOGINS + 1
    assert sum(map(len, cookies)) < MAX_HEADERS


async def test_4_7_the_oldest_logins_of_a_browser_give_way(login: Login) -> None:
    """Browsers send the oldest cookie first (RFC 6265, section 5.4)."""
    browser = login.browser()
    begun = [await login.begin(browser) for _ in range(MAX_LOGINS + 2)]
    first, *_, before_last, last = [await login.accept(challenge_of(each)) for each in begun]
    assert (await browser.get(first)).status_code == 400
    for url in (before_last, last):
        assert "code" in location(await browser.get(url))


async def test_4_8_pkce_can_not_be_left_out_or_weakened(login: Login) -> None:
    browser = login.browser()
    for changes in (
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
        {"code_challenge": VERIFIER, "code_challenge_method": "s256"},
        {"code_challenge": CHALLENGE + "="},
    ):
        assert location(await login.begin(browser, **changes))["error"] == "invalid_request"
    code = await code_for(login, browser)
    for verifier in ("", "short", CHALLENGE, "v" * 129, "é" * 43):
        answer = await login.exchange(code, code_verifier=verifier)
        assert answer.json()["error"] in {"invalid_request", "invalid_grant"}
        assert answer.status_code == 400
    assert (await login.exchange(code)).status_code == 200


@pytest.mark.parametrize("changes", [{}, {"scope": "admin"}, {"response_type": "token"}], ids=str)
async def test_4_11_no_redirection_to_a_client_that_describes_itself(changes: dict[str, str]) -> None:
    """Anyone can describe a client. A request that fails would make the service an open redirector."""
    app = await OAuthApp.start(documents=Documents(), document_rules=DocumentRules(scopes=("openid", "read")))
    login = Login(app)
    await app.node.core.known_clients.resolve(Documents.URL, "app")
    assert app.node.core.known_clients.get(Documents.URL) is not None
    refused = await login.begin(login.browser(), **{"client_id": Documents.URL, **changes})
    assert refused.status_code == 400
    assert "consent_required" in refused.text
    assert "location" not in refused.headers
    await app.close()


class Documents:
    """The metadata document of one client."""

    URL = "https://evil.example/client"

    async def fetch(self, url: str) -> FetchedDocument:
        document = {"client_id": url, "redirect_uris": [REDIRECT], "grant_types": [AUTHORIZATION_CODE]}
        return FetchedDocument(strict_json.encode(document), 600.0)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_4_12_redirections_never_repeat_a_body(login: Login, method: str) -> None:
    browser = login.browser()
    for changes in ({}, {"scope": "admin"}):
        parameters = {**PARAMETERS, **changes}
        if method == "GET":
            answer = await browser.get("/authorize", params=parameters)
        else:
            answer = await browser.post("/authorize", data=parameters)
        assert answer.status_code == 303


async def test_4_16_pages_can_not_be_framed(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser, response_mode="form_post")
    for page in (
        await login.begin(browser, client_id="missing"),
        await browser.get(await login.accept(challenge_of(begun))),
    ):
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert "base-uri 'none'" in policy
        assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "state", ['"><img src=x onerror=alert(1)>', "'--><svg/onload=alert(1)>", "{{7*7}}", "&#34;"]
)
async def test_form_post_escapes_what_it_repeats(login: Login, state: str) -> None:
    browser = login.browser()
    begun = await login.begin(browser, response_mode="form_post", state=state)
    page = await browser.get(await login.accept(challenge_of(begun)))
    (shown,) = re.findall(r'name="state" value="([^"]*)"', page.text)
    assert not set("<>'").intersection(shown)
    assert html.unescape(shown) == state


async def test_rejection_of_a_login_service_is_escaped_too(login: Login) -> None:
    browser = login.browser()
    begun = await login.begin(browser, response_mode="form_post")
    url = await login.challenges.reject(
        Caller.system(), challenge_of(begun), "</form><script>x</script>", 0.0
    )
    page = await browser.get(url)
    assert "<script>x" not in page.text


async def test_longest_login_fits_into_headers(login: Login) -> None:
    """The largest state and nonce that are accepted, in as many logins as a browser keeps."""
    browser = login.browser()
    url = ""
    for _ in range(MAX_LOGINS):
        begun = await login.begin(browser, state="s" * MAX_STATE, nonce="n" * 256, login_hint="h" * 256)
        url = await login.accept(
            challenge_of(begun),
            "u" * 256,
            auth_context=AuthContext("a" * 128, tuple(f"otp-{n}" for n in range(8)), 1),
        )
    assert sum(map(len, browser.cookies.values())) <= MAX_COOKIES
    request = browser.build_request("GET", url)
    line = len(f"GET {request.url.raw_path.decode()} HTTP/1.1\r\n")
    assert line + sum(len(name) + len(value) + 4 for name, value in request.headers.raw) < MAX_HEADERS
    assert location(await browser.get(url))["state"] == "s" * MAX_STATE


async def test_longer_values_are_refused_before_anything_is_set(login: Login) -> None:
    too_long = await login.begin(login.browser(), state="s" * (MAX_STATE + 1))
    assert location(too_long)["error"] == "invalid_request"
    assert "set-cookie" not in too_long.headers
    assert (await login.begin(login.browser(), login_hint="x" * 13_000)).status_code == 400


@pytest.mark.parametrize("path", ["/authorize", "/callback/inhouse", "/par"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
async def test_other_methods_begin_and_complete_nothing(login: Login, path: str, method: str) -> None:
    browser = login.browser()
    url = urlsplit(await login.accept(challenge_of(await login.begin(browser))))
    query = url.query if path.startswith("/callback") else urlencode(PARAMETERS)
    answer = await browser.request(method, f"{path}?{query}")
    assert answer.status_code == 405
    assert "set-cookie" not in answer.headers
    assert "location" not in answer.headers
    assert "code" in location(await browser.get(url.geturl()))


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "\r\nSet-Cookie: x=1",
            "\x00",
            "\x1b[31m",
            "\u202e",
            "\ud800",
            "é",
            "%0d%0a",
            "\x7f",
            "\U0001d54f" * 30,
        ]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            *PARAMETERS,
            "prompt",
            "max_age",
            "acr_values",
            "resource",
            "login_hint",
            "id_token_hint",
            "upstream",
            "response_mode",
            "request_uri",
            "request",
            "x",
        ]
    ),
    value=HOSTILE,
    post=st.booleans(),
)
async def test_any_text_in_any_parameter_is_answered(
    login: Login, name: str, value: str, *, post: bool
) -> None:
    """Unicode and control characters: never a defect, and never a control character in a header."""
    body = urlencode({**PARAMETERS, name: value}, errors="surrogatepass")
    browser = login.browser()
    if post:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await browser.post("/authorize", content=body, headers=headers)
    else:
        answer = await browser.get(f"/authorize?{body}")
    assert answer.status_code in {303, 400}
    for header in answer.headers.raw:
        assert all(0x20 <= byte < 0x7F for part in header for byte in part)


@pytest.mark.parametrize("name", ["state", "login_verifier", "code", "error", "iss", "x"])
@pytest.mark.parametrize("value", ["\r\nSet-Cookie: x=1", "\x00", "é", "\u202e", "\ud800", "a" * 9000])
async def test_any_text_at_the_callback_is_answered(login: Login, name: str, value: str) -> None:
    browser = login.browser()
    url = urlsplit(await login.accept(challenge_of(await login.begin(browser))))
    query = urlencode({**dict(parse_qsl(url.query)), name: value}, errors="surrogatepass")
    answer = await browser.get(f"/callback/inhouse?{query}")
    assert answer.status_code in {303, 400}
    if name in {"state", "login_verifier"}:
        assert "code" not in (location(answer) if answer.status_code == 303 else {})
    for header in answer.headers.raw:
        assert all(0x20 <= byte < 0x7F for part in header for byte in part)

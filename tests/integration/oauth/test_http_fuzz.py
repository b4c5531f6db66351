"""A short run of the HTTP fuzzer. `scripts/faults http` sends hundreds of thousands of requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.http_fuzz import SETTINGS, Answer, HttpFuzz, check
from tests.faults.http_requests import (
    BROWSER_PATHS,
    POLICY,
    POST_LOGOUT_URI,
    REDIRECT_URI,
    UPSTREAM_URL,
    Request,
    Shapes,
)
from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode, http_client


async def test_short_fuzz_run_finds_no_violation() -> None:
    with IdentityProvider("read", policy=POLICY) as provider:
        async with OAuthNode(env={**SETTINGS, **provider.settings}) as node:
            shapes = await Shapes.of(node, provider)
            tally = await HttpFuzz(node, shapes, seed=20261130).run(1_500)
            async with http_client(node) as http:
                metadata = (await http.get("/.well-known/openid-configuration")).json()
    assert tally.answers.total() > 1_300
    assert {*metadata["grant_types_supported"]} <= shapes.grant_types()
    endpoints = {value for name, value in metadata.items() if name.endswith("_endpoint")}
    paths = {endpoint.removeprefix(node.issuer) for endpoint in endpoints}
    assert {"/authorize", "/par", "/device_authorization", "/userinfo", "/end_session"} <= paths
    for path in paths - BROWSER_PATHS:
        assert tally.statuses(path) & {200, 201, 204}, path
        assert {400, 401, 405} <= tally.statuses(path), path
    for path in BROWSER_PATHS - {"/device", "/end_session/return"}:
        assert {303, 400, 405} <= tally.statuses(path), path
    assert {200, 400, 405} <= tally.statuses("/device")
    assert {400, 405} <= tally.statuses("/end_session/return")
    assert {400, 405} <= tally.statuses("/backchannel-logout/inhouse")


_GOOD = Answer(
    400,
    [("content-type", "application/json"), ("cache-control", "no-store")],
    b'{"error":"invalid_request","error_description":"no"}',
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (replace(_GOOD, status=500), "a defect"),
        (replace(_GOOD, status=307), "a redirect"),
        (replace(_GOOD, status=401), "401 needs a challenge"),
        (replace(_GOOD, headers=_GOOD.headers[:1]), "the answer may be cached"),
        (replace(_GOOD, headers=_GOOD.headers[1:]), "not JSON"),
        (replace(_GOOD, body=b'{"error":"server_error","error_description":""}'), "an unknown error code"),
        (replace(_GOOD, body=b'{"error":"invalid_request","error_description":"\\u00e9"}'), "a character"),
        (replace(_GOOD, body=b'{"error":"invalid_request","error_uri":null}'), "a null field"),
        (replace(_GOOD, body=b'{"error":"fuzzsecret0123456789abcdef"}'), "repeats a secret"),
    ],
)
def test_fuzz_reports_answers_that_break_a_rule(answer: Answer, said: str) -> None:
    check(Request("POST", "/token"), _GOOD, [])
    with pytest.raises(AssertionError, match=said):
        check(Request("POST", "/token"), answer, ["fuzzsecret0123456789abcdef"])


_STATE = "fuzzsecret0123456789abcdef"
_BROWSER = Request(
    "GET", "/authorize", (("state", _STATE), ("code", "fuzzsecret1111111111111111")), in_query=True
)
_PAGE = Answer(
    400,
    [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ],
    b"<p>no</p>",
)


def _sent(location: str, status: int = 303) -> Answer:
    return Answer(status, [("cache-control", "no-store"), ("location", location)], b"")


def _form(action: str, name: str = "state") -> Answer:
    body = f'<form method="post" action="{action}"><input name="{name}" value="{_STATE}"></form>'
    return replace(_PAGE, status=200, body=body.encode())


@pytest.mark.parametrize(
    "answer",
    [
        _PAGE,
        _sent(UPSTREAM_URL),
        _sent(f"{POST_LOGOUT_URI}?state={_STATE}"),
        _sent(f"{REDIRECT_URI}?error=access_denied&state={_STATE}"),
        _form(REDIRECT_URI),
    ],
)
def test_fuzz_admits_pages_and_redirects_to_registered_uris(answer: Answer) -> None:
    check(_BROWSER, answer, [_STATE])


@pytest.mark.parametrize(
    ("request_", "answer", "said"),
    [
        (Request("POST", "/token"), _sent(REDIRECT_URI), "a redirect"),
        (Request("GET", "/authorize", target=b"/x?/authorize"), _sent(REDIRECT_URI), "a redirect"),
        (_BROWSER, _sent(REDIRECT_URI, 302), "may repeat a body"),
        (_BROWSER, _sent(REDIRECT_URI, 307), "may repeat a body"),
        (_BROWSER, _sent("https://attacker.example/"), "to elsewhere"),
        (_BROWSER, _sent(f"{REDIRECT_URI}.attacker.example/"), "to elsewhere"),
        (_BROWSER, _sent(""), "to elsewhere"),
        (_BROWSER, replace(_sent(REDIRECT_URI), headers=[("location", REDIRECT_URI)]), "may be cached"),
        (_BROWSER, _sent(f"{REDIRECT_URI}?error={_STATE}"), "repeats a secret"),
        (_BROWSER, _sent(f"{REDIRECT_URI}?state=fuzzsecret1111111111111111"), "repeats a secret"),
        (_BROWSER, _form("https://attacker.example/"), "repeats a secret"),
        (_BROWSER, _form(REDIRECT_URI, "code"), "repeats a secret"),
        (_BROWSER, replace(_PAGE, body=_STATE.encode()), "repeats a secret"),
        (_BROWSER, _GOOD, "not a page"),
        (_BROWSER, replace(_PAGE, headers=_PAGE.headers[:3]), "without a Content-Security-Policy"),
        (_BROWSER, replace(_PAGE, headers=[*_PAGE.headers[:2], _PAGE.headers[3]]), "can be framed"),
    ],
)
def test_fuzz_reports_answers_to_browsers_that_break_a_rule(
    request_: Request, answer: Answer, said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        check(request_, answer, [_STATE, "fuzzsecret1111111111111111"])

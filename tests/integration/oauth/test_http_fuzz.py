"""A short run of the HTTP fuzzer. `scripts/faults http` sends hundreds of thousands of requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.http_fuzz import SETTINGS, Answer, HttpFuzz, check
from tests.faults.http_requests import Request, Shapes
from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode, http_client


async def test_short_fuzz_run_finds_no_violation() -> None:
    with IdentityProvider("read") as provider:
        async with OAuthNode(env={**SETTINGS, **provider.settings}) as node:
            shapes = await Shapes.of(node, provider)
            tally = await HttpFuzz(node, shapes, seed=20261130).run(1_500)
            async with http_client(node) as http:
                metadata = (await http.get("/.well-known/openid-configuration")).json()
    assert tally.answers.total() > 1_300
    assert {*metadata["grant_types_supported"]} <= shapes.grant_types()
    endpoints = {value for name, value in metadata.items() if name.endswith("_endpoint")}
    for path in (endpoint.removeprefix(node.issuer) for endpoint in endpoints):
        assert tally.statuses(path) & {200, 204}, path
        assert {400, 401, 405} <= tally.statuses(path), path


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

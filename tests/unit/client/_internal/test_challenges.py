from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from token_service.client._internal.challenges import parse_challenges

REFUSED = {"error": "invalid_token"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("Bearer", [("bearer", {})]),
        ('Bearer error="invalid_token"', [("bearer", REFUSED)]),
        ("Bearer error=invalid_token", [("bearer", REFUSED)]),
        ('Bearer error = "invalid_token"', [("bearer", REFUSED)]),
        ('Bearer error\t=\t"invalid_token"', [("bearer", REFUSED)]),
        ('bearer Error="invalid_token"', [("bearer", REFUSED)]),
        ('BEARER   ERROR="invalid_token"  ', [("bearer", REFUSED)]),
        (r'Bearer error="invalid\_\token"', [("bearer", REFUSED)]),
        (
            'Bearer realm="a, b", error="invalid_token"',
            [("bearer", {"realm": "a, b", "error": "invalid_token"})],
        ),
        (r'Bearer realm="say \"hi\" \\"', [("bearer", {"realm": 'say "hi" \\'})]),
        ("Bearer realm=x,,error=invalid_token,", [("bearer", {"realm": "x", "error": "invalid_token"})]),
        ("Bearer error=invalid_token, error=other", [("bearer", REFUSED)]),
        (
            'Basic realm="x", Bearer error="invalid_token"',
            [("basic", {"realm": "x"}), ("bearer", REFUSED)],
        ),
        (
            'Bearer error="invalid_token", Basic realm="x"',
            [("bearer", REFUSED), ("basic", {"realm": "x"})],
        ),
        ("Negotiate, Bearer error=invalid_token", [("negotiate", {}), ("bearer", REFUSED)]),
        ("Negotiate YWJj==, Bearer error=invalid_token", [("negotiate", {}), ("bearer", REFUSED)]),
        ("Negotiate YWI=, Bearer error=invalid_token", [("negotiate", {}), ("bearer", REFUSED)]),
        ("Negotiate YWI, Bearer error=invalid_token", [("negotiate", {}), ("bearer", REFUSED)]),
        (
            r'DPoP algs="ES256 \"Bearer error=invalid_token\""',
            [("dpop", {"algs": 'ES256 "Bearer error=invalid_token"'})],
        ),
        ('Basic realm="Bearer error=invalid_token"', [("basic", {"realm": "Bearer error=invalid_token"})]),
        (
            'Digest realm="x", error="invalid_token"',
            [("digest", {"realm": "x", "error": "invalid_token"})],
        ),
        ("error=invalid_token", []),
        ("Bearer error=", [("bearer", {})]),
        ('Bearer error="invalid_token', [("bearer", {})]),
        ('Bearer error=invalid_token, scope="', [("bearer", REFUSED)]),
        ('Bearer error="invalid_token"x', [("bearer", {})]),
        ('Basic realm="x", \x00', [("basic", {"realm": "x"})]),
    ],
)
def test_challenges_are_parsed_as_rfc_9110_defines(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    assert parse_challenges(header) == expected


@given(st.text(alphabet='aB1 \t,="\\/~\x00é', max_size=40))
def test_parsing_ends_for_any_text(header: str) -> None:
    for scheme, parameters in parse_challenges(header):
        assert scheme == scheme.lower() != ""
        assert all(name == name.lower() != "" for name in parameters)


@given(
    st.dictionaries(st.sampled_from(["realm", "error", "scope"]), st.text(alphabet='a ,="\\é', max_size=10))
)
def test_quoted_values_are_read_as_they_were_written(parameters: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = "Bearer " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
    assert parse_challenges(header) == [("bearer", parameters)]


def test_a_long_header_is_parsed_without_backtracking() -> None:
    for piece in ('a="', "a ", "a=,", "a\t", '\\"', "a=b ", "=", "a", "=a"):
        for start in ("Bearer ", 'Bearer a="'):
            parse_challenges(start + piece * 20_000)

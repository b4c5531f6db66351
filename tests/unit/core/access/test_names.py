from __future__ import annotations

import pytest

from token_service.core.access.callers import parse_callers
from token_service.core.access.names import is_spiffe_id, matches, problem_of_pattern
from token_service.core.clients.uris import is_dns_name
from token_service.errors import ConfigurationError


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org",
        "spiffe://example.org/login",
        "spiffe://staging.example.org/ns/default/sa/Login_1.x-y",
        "spiffe://a_b-c.1/" + "x" * 2000,
    ],
)
def test_spiffe_ids(text: str) -> None:
    assert is_spiffe_id(text)
    assert problem_of_pattern(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe:///login",
        "SPIFFE://example.org/login",
        "spiffe://Example.org/login",
        "spiffe://example.org/",
        "spiffe://example.org/team/",
        "spiffe://example.org//login",
        "spiffe://example.org/team/../login",
        "spiffe://example.org/team/./login",
        "spiffe://example.org/team/%2e%2e",
        "spiffe://example.org/login?x",
        "spiffe://example.org/login#x",
        "spiffe://example.org/login\n",
        "spiffe://example.org/login\0",
        "spiffe://example.org:443/login",
        "spiffe://user@example.org/login",
        "spiffe://example.org/lögin",
        "spiffe://example.org/*",
        "spiffe://" + "a" * 256,
        "spiffe://example.org/" + "x" * 2048,
        "https://example.org/login",
    ],
)
def test_invalid_spiffe_ids_are_refused(text: str) -> None:
    assert not is_spiffe_id(text)


@pytest.mark.parametrize(
    "text", ["a", "gateway.internal", "xn--bcher-kva.example", "a1.b-2", "a" * 63 + ".b"]
)
def test_dns_names(text: str) -> None:
    assert is_dns_name(text)
    assert problem_of_pattern(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a_b",
        "A.example",
        "*.example.org",
        "a.example.org\0.lab.test",
        "gateway.internal\n",
        "bücher.example",
        "127.0.0.1",
        "1",
        "a" * 64,
        ".".join(["a" * 63] * 4),
        "a/b",
    ],
)
def test_invalid_dns_names_are_refused(text: str) -> None:
    assert not is_dns_name(text)


@pytest.mark.parametrize(
    "pattern",
    ["spiffe://*", "spiffe:/*", "spiffe://x*", "spiffe://example.org/te*", "spiffe://example.org/team//*",
     "spiffe://example.org/../*", "spiffe://example.org/team/*/login", "*", "/*", "*.example.org",
     "gateway.internal/*", "Gateway.internal", "10.0.0.1", "", "https://example.org/*"],
)  # fmt: skip
def test_too_wide_or_meaningless_patterns_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_callers({"callers": {pattern: {"permissions": ["validate"]}}})
    assert f"callers.{pattern}: " in caught.value.message


def test_a_pattern_stands_for_the_ids_below_it() -> None:
    callers = {"spiffe://x.org/*": 1, "spiffe://x.org/team/*": 2, "spiffe://x.org/team/a": 3, "dns.name": 4}
    assert matches(callers, "spiffe://x.org/team/a") == [3]
    assert matches(callers, "spiffe://x.org/team/b") == [1, 2]
    assert matches(callers, "spiffe://x.org/team") == [1]
    assert matches(callers, "spiffe://x.org") == []
    assert matches(callers, "spiffe://x.orgy/a") == []
    assert matches(callers, "dns.name") == [4]
    assert matches(callers, "other.name") == []

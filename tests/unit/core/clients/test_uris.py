"""Rules for the URIs of a client."""

from __future__ import annotations

import pytest

from token_service.core.clients.uris import (
    is_absolute_uri,
    is_dns_name,
    problem_of_origin,
    problem_of_redirect_uri,
    problem_of_web_uri,
)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb",
        "https://app.example",
        "https://app.example/cb?tenant=1&x=%2F",
        "https://app.example:8443/a/b;c=1/@me",
        "https://192.0.2.1/cb",
        "https://[2001:db8::1]:8443/cb",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:49152/cb",
        "http://[::1]:1/cb",
        "com.example.app:/oauth2redirect",
        "com.example.app://callback/x",
    ],
)
def test_exact_redirect_uri_is_accepted(uri: str) -> None:
    assert problem_of_redirect_uri(uri) is None


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("", "https://"),
        ("app.example/cb", "https://"),
        ("//app.example/cb", "https://"),
        ("http://app.example/cb", "127.0.0.1"),
        ("http://localhost/cb", "127.0.0.1"),
        ("http://127.0.0.1.evil.example/cb", "127.0.0.1"),
        ("http://127.0.0.2/cb", "127.0.0.1"),
        ("myapp:/cb", "dot"),
        ("javascript:alert(1)", "dot"),
        ("data:text/html,x", "dot"),
        ("com.example.app:", "exactly"),
        ("com.example.app:cb", "exactly"),
        ("com.example.app:/cb#x", "fragment"),
        ("com.example.app://u@host/cb", "user name"),
        ("https://app.example/cb#", "fragment"),
        ("https://app.example/cb#x", "fragment"),
        ("https://*.app.example/cb", "wildcard"),
        ("https://app.example/*", "wildcard"),
        ("https://user@app.example/cb", "user name"),
        ("https://user:password@app.example/cb", "user name"),
        ("https://app.example\\@evil.example/cb", "user name"),
        ("https://App.example/cb", "exactly"),
        ("HTTPS://app.example/cb", "https://"),
        ("https:///cb", "exactly"),
        ("https:/app.example/cb", "exactly"),
        ("https://app..example/cb", "host"),
        ("https://-app.example/cb", "host"),
        ("https://1.2.3/cb", "host"),
        ("https://192.0.2.256/cb", "host"),
        ("https://[2001:DB8::1]/cb", "exactly"),
        ("https://[2001:db8:0::1]/cb", "host"),
        ("https://app.example:0/cb", "exactly"),
        ("https://app.example:65536/cb", "port"),
        ("https://app.example:/cb", "exactly"),
        ("https://app.example/a b", "exactly"),
        ("https://app.example/a%2f", "exactly"),
        ("https://app.example/a%", "exactly"),
        ("https://app.example/ä", "exactly"),
        ("https://app.example/cb\n", "exactly"),
        ("https://app.example/../cb", "segment"),
        ("https://app.example/a/./cb", "segment"),
        ("https://app.example/a/..", "segment"),
    ],
)
def test_other_redirect_uri_is_refused(uri: str, part: str) -> None:
    problem = problem_of_redirect_uri(uri)
    assert problem is not None
    assert part in problem


def test_http_on_loopback_is_refused_for_fetched_uris() -> None:
    assert problem_of_web_uri("https://a.example/x", loopback=False) is None
    assert problem_of_web_uri("http://127.0.0.1/x", loopback=False) == "must begin with https://"


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("https://app.example", True),
        ("https://app.example:8443", True),
        ("http://127.0.0.1:3000", True),
        ("https://app.example/", False),
        ("https://app.example?x", False),
        ("https://app.example:443", False),
        ("http://127.0.0.1:80", False),
        ("null", False),
        ("*", False),
    ],
)
def test_origin_is_as_browsers_send_it(origin: str, accepted: bool) -> None:  # noqa: FBT001
    assert (problem_of_origin(origin) is None) is accepted


def test_names_in_certificates() -> None:
    assert is_dns_name("a-b.example")
    assert not any(map(is_dns_name, ("", "A.example", "*.example", "192.0.2.1", "a_b", "a.", "a" * 254)))
    assert is_absolute_uri("spiffe://example.org/app")
    assert not any(map(is_absolute_uri, ("", "app", "spiffe:", "spiffe://a/#b", "spiffe://a b", "x://é")))

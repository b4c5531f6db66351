"""The upstreams of the policy file."""

from __future__ import annotations

from typing import Any

import pytest

from token_service.core.login.oidc_settings import OidcSettings
from token_service.core.login.upstreams import ChallengeSettings, parse_upstreams
from token_service.errors import ConfigurationError

OIDC: dict[str, Any] = {
    "kind": "oidc",
    "issuer": "https://login.example",
    "client_id": "tokens",
    "client_secret_file": "/secret",
}
CHALLENGE = {"kind": "challenge", "url": "https://login.example/in"}


def parsed(**changes: Any) -> OidcSettings:
    settings = {name: value for name, value in {**OIDC, **changes}.items() if value is not None}
    upstream = parse_upstreams({"upstreams": {"corporate": settings}})["corporate"]
    assert isinstance(upstream, OidcSettings)
    return upstream


def test_order_of_the_file_is_kept() -> None:
    found = parse_upstreams({"upstreams": {"b": OIDC, "a": CHALLENGE, "c": OIDC}})
    assert list(found) == ["b", "a", "c"]
    assert found["a"] == ChallengeSettings("a", "https://login.example/in")


def test_defaults() -> None:
    upstream = parsed()
    assert upstream.scopes == ("openid",)
    assert upstream.subject.of({"sub": "alice"}) == "corporate:alice"
    assert (upstream.private, upstream.userinfo, upstream.identity_claims) == (False, False, ())
    assert upstream.acr_here("urn:2") == ""
    assert upstream.acrs_there(("urn:2",)) == ()


def test_classes_are_translated_in_both_directions() -> None:
    upstream = parsed(acr={"urn:2": "mfa", "urn:3": "mfa", "urn:1": "pwd"}, pass_acr=True)
    assert upstream.acr_here("urn:3") == "mfa"
    assert upstream.acr_here("urn:9") == "urn:9"
    assert upstream.acrs_there(("pwd", "mfa", "urn:9")) == (
        "urn:1", "pwd", "urn:2", "urn:3", "mfa", "urn:9",
    )  # fmt: skip
    # `urn:1` of the provider becomes `pwd` here, so it would not satisfy this request.
    assert upstream.acrs_there(("urn:1",)) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "saml"}, "kind: must be one of challenge, oidc"),
        ({"kind": ["oidc"]}, "kind: must be one of"),
        ({"kind": "challenge"}, "issuer: no such setting; allowed: kind, url"),
        ({"issuer": None}, "issuer: is required"),
        ({"client_id": None}, "client_id: is required"),
        ({"client_secret_file": None}, "client_secret_file: is required"),
        ({"client_secret": "x"}, "client_secret: no such setting.*client_secret_file"),
        ({"issuer": "http://login.example"}, "issuer: must be an https URL"),
        ({"issuer": "login.example"}, "issuer: must be an https URL"),
        ({"issuer": "ftp://a", "private": True}, "issuer: must be an https URL"),
        ({"issuer": 5}, "issuer: must be a text"),
        ({"private": "yes"}, "private: must be true or false"),
        ({"scopes": ["email"]}, "scopes: lacks openid"),
        ({"scopes": "openid"}, "scopes: must be a list"),
        ({"scopes": ["openid", "a b"]}, "scopes"),
        ({"subject": "all"}, "subject: has no claim"),
        ({"roles": {"claim": "groups"}}, "roles: values"),
        ({"identity_claims": ["sub"]}, "identity_claims: sub is set by this service"),
        ({"identity_claims": ["password"]}, "identity_claims: password"),
        ({"identity_claims": []}, "identity_claims: must be a list"),
        ({"identity_claims": [5]}, "identity_claims: 5"),
        ({"acr": {}}, "acr: must be a table"),
        ({"acr": {"a b": "x"}}, "acr: .*without spaces"),
        ({"acr": {"a": ""}}, "acr: "),
        ({"acr": {"a": 2}}, "acr: "),
    ],
    ids=str,
)
def test_each_mistake_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"upstreams\.corporate: {problem}"):
        parsed(**changes)


def test_all_mistakes_are_listed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_upstreams({"upstreams": {"Bad": OIDC, "b": {"kind": "challenge"}, "c": 5}})
    for part in (
        "upstreams.Bad: the name",
        "upstreams.b: url: must be a text",
        "upstreams.c: must be a table",
    ):
        assert part in caught.value.message
    with pytest.raises(ConfigurationError, match="upstreams: must be a table"):
        parse_upstreams({"upstreams": []})
    with pytest.raises(ConfigurationError, match="more than 16"):
        parse_upstreams({"upstreams": {f"u{n}": CHALLENGE for n in range(17)}})

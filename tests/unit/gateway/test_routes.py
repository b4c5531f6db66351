from __future__ import annotations

import pytest

from token_service.gateway import routes
from token_service.gateway.routes import Rules
from token_service.gateway.settings import Route


def test_rules_are_parsed_once_and_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_MAX_KNOWN", 3)
    rules = Rules({}, ["https://a.example"])
    first = rules.find({"scopes": "a b", "max_age": "60"})
    assert first is rules.find({"max_age": "60", "scopes": "a b"})
    for number in range(10):
        rules.find({"scopes": f"s{number}"})
        rules.find({"unknown": str(number)})
        assert len(rules._known) <= 3
    assert rules.find({"scopes": "a" * 10_000}) is not None
    assert all(len(dict(key).get("scopes", "")) < 10_000 for key in rules._known)


def test_rule_has_all_keys() -> None:
    rules = Rules({}, ["https://a.example"])
    rule = rules.find(
        {
            "issuer": "https://a.example",
            "audience": "api",
            "scopes": "a  b",
            "roles": "c",
            "groups": "d e",
            "entitlements": "f",
            "acr_values": "high low",
            "max_age": "60",
            "cors_preflight": "true",
        }
    )
    assert rule is not None
    required = rule.required
    assert (required.issuer, required.audience, required.max_age) == ("https://a.example", "api", 60)
    assert (required.scopes, required.roles, required.groups) == ({"a", "b"}, {"c"}, {"d", "e"})
    assert (required.entitlements, required.acr_values) == ({"f"}, ("high", "low"))
    assert (rule.public, rule.cors_preflight) == (False, True)


def test_keys_are_those_of_a_route() -> None:
    assert {"route", *Route.__struct_fields__} == routes.KEYS


def test_no_texts_require_a_token() -> None:
    rule = Rules({}, []).find({})
    assert rule is not None
    assert (rule.public, rule.cors_preflight) == (False, False)

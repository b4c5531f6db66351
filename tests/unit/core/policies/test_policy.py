"""Policies and callers are read from a document, and all its mistakes are reported at once."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from token_service.core.access.callers import parse_callers
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import (
    DAY,
    MAX_SESSION_TTL,
    MINUTE,
    Policy,
    PolicyBook,
    ReuseResponse,
    parse_policy_book,
)
from token_service.errors import ConfigurationError


def parse(text: str, **overrides: str) -> PolicyBook:
    return parse_policy_book(tomllib.loads(text), overrides)


def mistakes(error: pytest.ExceptionInfo[ConfigurationError]) -> list[str]:
    return [line.strip() for line in error.value.message.splitlines()[1:]]


def test_without_a_document_there_are_four_classifications():
    book = parse("")
    assert set(book.policies) == {"public", "internal", "confidential", "restricted"}
    assert (book.default, book.classifications) == ("internal", {})
    for policy in book.policies.values():
        assert 15 * MINUTE <= policy.access_token_ttl <= 60 * MINUTE
        assert 7 * DAY <= policy.refresh_token_ttl <= 30 * DAY
        assert policy.idle_timeout <= policy.refresh_token_ttl
        assert policy.rotate
        assert policy.grace_period == 10
    assert book.policies["restricted"].binding_required
    assert book.policies["restricted"].reuse_response is ReuseResponse.SUBJECT


def test_document_overrides_defaults_and_settings_override_the_document():
    book = parse(
        """
        default = "public"

        [classifications.internal]
        access_token_ttl = "20m"
        rotate = false

        [classifications.machines]
        refresh_token_ttl = 3600
        default_audience = ["api", "files"]

        [clients.billing]
        classification = "restricted"

        [clients.robot]
        classification = "machines"
        """,
        **{
            "internal.access_token_ttl": "5m",
            "machines.grace_period": "0",
            "machines.reuse_response": "subject",
        },
    )
    assert book.policies["internal"].access_token_ttl == 5 * MINUTE
    assert not book.policies["internal"].rotate
    machines = book.policies["machines"]
    assert (machines.refresh_token_ttl, machines.grace_period) == (3600, 0)
    assert (machines.default_audience, machines.reuse_response) == (("api", "files"), ReuseResponse.SUBJECT)
    policies = Policies(book)
    assert policies.of("billing") is book.policies["restricted"]
    assert policies.of("robot") is machines
    assert policies.of("anybody") is book.policies["public"]
    assert book.classification("robot") == "machines"
    assert book.classification("anybody") == "public"
    policies.book = PolicyBook()
    assert policies.of("robot") == Policy()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), (1, 1), (3600, 3600)]
)
def test_durations_become_seconds(text: Any, seconds: int):
    book = parse_policy_book({"classifications": {"internal": {"access_token_ttl": text}}})
    assert book.policies["internal"].access_token_ttl == seconds


EDGES = {
    "access_token_ttl": (1, 3600),
    "refresh_token_ttl": (1, MAX_SESSION_TTL),
    "idle_timeout": (1, MAX_SESSION_TTL),
    "grace_period": (0, 5 * MINUTE),
    "max_retries": (0, 10_000),
    "max_custom_claim_bytes": (0, 8192),
}


@pytest.mark.parametrize("setting", EDGES)
def test_ranges_at_their_edges(setting: str):
    low, high = EDGES[setting]
    for value in (low, high):
        without_grace = {"internal.grace_period": "0"} if setting == "max_retries" else {}
        book = parse("", **without_grace, **{f"internal.{setting}": str(value)})
        assert getattr(book.policies["internal"], setting) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigurationError):
            parse("", **{f"internal.{setting}": str(value)})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("access_token_ttl", "soon"),
        ("access_token_ttl", ""),
        ("access_token_ttl", "5 m"),
        ("access_token_ttl", "1w"),
        ("access_token_ttl", "-1"),
        ("access_token_ttl", 1.5),
        ("access_token_ttl", True),
        ("access_token_ttl", ["5m"]),
        ("access_token_ttl", "9" * 5000),
        ("access_token_ttl", "٣m"),
        ("max_retries", "5m"),
        ("max_retries", "many"),
        ("rotate", "maybe"),
        ("rotate", 1),
        ("binding_required", ""),
        ("reuse_response", "nothing"),
        ("reuse_response", ["session"]),
        ("default_audience", ""),
        ("default_audience", "a,,b"),
        ("default_audience", ["a", ""]),
        ("default_audience", [1]),
        ("default_audience", {"a": 1}),
        ("no_such_setting", 1),
    ],
    ids=repr,
)
def test_bad_value_is_refused_with_its_position(setting: str, value: Any):
    with pytest.raises(ConfigurationError) as error:
        parse_policy_book({"classifications": {"internal": {setting: value}}})
    (mistake,) = mistakes(error)
    assert mistake.startswith(f"classifications.internal.{setting}: ")


def test_no_retries_within_a_grace_period_is_a_contradiction():
    """The first retry would be told to come later, and then be treated as reuse."""
    for document, overrides in (
        ("[classifications.machines]\nmax_retries = 0", {}),
        ("", {"internal.max_retries": "0"}),
        ("[classifications.internal]\nmax_retries = 0\ngrace_period = 0", {"internal.grace_period": "5s"}),
    ):
        with pytest.raises(ConfigurationError, match=r'set grace_period = "0s"') as error:
            parse(document, **overrides)
        (mistake,) = mistakes(error)
        assert mistake.split(":")[0] in {"machines.max_retries", "internal.max_retries"}
    strict = parse("[classifications.internal]\nmax_retries = 0", **{"internal.grace_period": "0"})
    assert strict.policies["internal"].max_retries == 0


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigurationError) as error:
        parse(
            """
            default = "secret"
            polices = 1

            [classifications.internal]
            access_token_ttl = "2h"
            rotat = true

            [classifications.machines]
            grace_period = "6m"

            [clients.billing]
            classification = "secret"

            [clients.shop]
            classification = "public"
            rotate = true

            [clients.empty]
            """,
            **{"public.max_retries": "x", "nobody.rotate": "true", "internal": "x"},
        )
    places = {mistake.split(":")[0] for mistake in mistakes(error)}
    assert places == {
        "default",
        "polices",
        "classifications.internal.access_token_ttl",
        "classifications.internal.rotat",
        "classifications.machines.grace_period",
        "clients.billing",
        "clients.shop",
        "clients.empty",
        "public.max_retries",
        "nobody.rotate",
        "internal.",
    }


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"default": ["internal"]}, "default"),
        ({"default": {"a": 1}}, "default"),
        ({"default": 1}, "default"),
        ({"classifications": []}, "classifications"),
        ({"classifications": {"internal": 5}}, "classifications.internal"),
        ({"clients": "billing"}, "clients"),
        ({"clients": {"billing": "restricted"}}, "clients.billing"),
        ({"clients": {"billing": {"classification": ["restricted"]}}}, "clients.billing"),
        ({"clients": {"billing": {"classification": {}}}}, "clients.billing"),
    ],
    ids=repr,
)
def test_value_of_the_wrong_type_is_reported(document: dict[str, Any], place: str):
    with pytest.raises(ConfigurationError) as error:
        parse_policy_book(document)
    assert [mistake.split(":")[0] for mistake in mistakes(error)] == [place]


names = st.sampled_from(
    ["default", "classifications", "clients", "callers", "internal", "classification", "permissions", "x"]
    + [field.name for field in fields(Policy)]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["internal", "5m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, values, max_size=5))
def test_any_document_is_read_or_refused(document: dict[str, Any]):
    for parser in (parse_policy_book, parse_callers):
        try:
            parser(document)
        except ConfigurationError as error:
            assert error.message  # noqa: PT017 - either outcome is fine, any other error is not


def test_the_shortest_lifetime_of_client_and_audiences_counts() -> None:
    book = parse_policy_book(
        tomllib.loads(
            """
            [classifications.internal]
            access_token_ttl = "10m"
            idle_timeout = "2h"

            [clients.web]
            classification = "public"

            [audiences."https://billing.example.org"]
            classification = "restricted"

            [audiences."https://orders.example.org"]
            classification = "internal"
            """
        )
    )
    public, internal, restricted = (book.policies[name] for name in ("public", "internal", "restricted"))
    assert book.policy("web", ["https://other.example.org"]) == public
    orders = book.policy("web", ["https://orders.example.org"])
    assert (orders.access_token_ttl, orders.idle_timeout) == (600, 7200)
    assert (orders.refresh_token_ttl, orders.binding_required) == (internal.refresh_token_ttl, False)
    assert orders.max_custom_claim_bytes == public.max_custom_claim_bytes
    both = book.policy("web", ["https://billing.example.org", "https://orders.example.org"])
    assert (both.access_token_ttl, both.idle_timeout) == (600, 7200)
    assert both.refresh_token_ttl == restricted.refresh_token_ttl
    assert both.binding_required
    assert both.reuse_response is public.reuse_response
    assert both == book.policy("web", ["https://orders.example.org", "https://billing.example.org"])


def test_an_audience_of_an_unknown_classification_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_policy_book({"audiences": {"https://a": {"classification": "restrictd"}, "https://b": 5}})
    assert [mistake.split(":")[0] for mistake in mistakes(error)] == ["audiences.https", "audiences.https"]
    assert "did you mean restricted?" in error.value.message


@pytest.mark.parametrize("name", ["password", "sub", "client_secret", "API-Key"])
def test_a_forbidden_claim_can_not_be_allowed(name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_policy_book({"classifications": {"internal": {"allowed_custom_claims": ["team", name]}}})
    assert f"has {name}, which no request may set" in error.value.message

"""Rates are read from a policy file, and every mistake in them is named."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from token_service.core.access.callers import parse_callers
from token_service.core.access.rights import Rights
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import Policy, parse_policy_book
from token_service.core.policies.rates import (
    Bucket,
    Operation,
    Rate,
    parse_caller_rates,
    parse_class_rates,
    strictest,
)
from token_service.errors import ConfigurationError


def test_built_in_policies_have_no_rates() -> None:
    assert not any(policy.rates for policy in parse_policy_book({}).policies.values())
    assert not Rights.everything().rates


def test_classification_has_rates_of_a_table_and_of_an_override() -> None:
    book = parse_policy_book(
        tomllib.loads('[classifications.public]\nrates = { issue_per_client = "1000/1m" }'),
        {"internal.rates": "issue_per_subject=60/1m, refresh_per_address = 5/10s"},
    )
    assert book.policies["public"].rates == {(Operation.ISSUE, Bucket.CLIENT): Rate(1000, 60)}
    assert book.policies["internal"].rates == {
        (Operation.ISSUE, Bucket.SUBJECT): Rate(60, 60),
        (Operation.REFRESH, Bucket.ADDRESS): Rate(5, 10),
    }
    assert not book.policies["restricted"].rates


def test_rates_are_those_of_the_client_whatever_its_audience() -> None:
    book = parse_policy_book(
        tomllib.loads(
            """
            [classifications.internal]
            rates = { issue_per_client = "5/1s" }
            [classifications.restricted]
            rates = { issue_per_client = "1/1s" }
            [audiences.bank]
            classification = "restricted"
            """
        )
    )
    policy = Policies(book).of("web", ["bank"])
    assert policy.binding_required
    assert policy.rates == {(Operation.ISSUE, Bucket.CLIENT): Rate(5, 1)}


def test_caller_has_its_rates() -> None:
    callers = parse_callers(
        tomllib.loads(
            """
            [callers."gateway.example.org"]
            permissions = ["validate"]
            rates = { validate_opaque = "1000/1s", revoke_names = "100/1d" }
            """
        )
    )
    assert callers["gateway.example.org"].rates == {
        Operation.VALIDATE_OPAQUE: Rate(1000, 1),
        Operation.REVOKE_NAMES: Rate(100, 86_400),
    }


def test_caller_with_several_names_has_the_strictest_rates() -> None:
    one: dict[Operation, Rate] = {Operation.ISSUE: Rate(100, 60), Operation.REVOKE: Rate(1, 1)}
    other = {Operation.ISSUE: Rate(10, 1), Operation.REFRESH: Rate(3, 1)}
    expected = {
        Operation.ISSUE: Rate(100, 60),  # 1.7 per second are fewer than 10
        Operation.REVOKE: Rate(1, 1),
        Operation.REFRESH: Rate(3, 1),
    }
    assert strictest([one, other]) == strictest([other, one]) == expected
    assert Rights.joined([Rights((), one), Rights((), other)]).rates == expected
    assert (Rights((), one) | Rights((), other)).rates == expected


@pytest.mark.parametrize(
    "text", ["", "10", "/1m", "10/", "0/1m", "-1/1m", "+1/1m", "1.5/1m", "\u0661/1m", "10/0s", "10/500ms", "10/1.5s",
             "10/2d", "100001/1m", "10/1w", "10 / 1m", "1e3/1m", "10/1m/1h", 10, None, ["10/1m"], True]
)  # fmt: skip
def test_invalid_rate_is_refused(text: Any) -> None:
    for parse, name in ((parse_class_rates, "issue_per_client"), (parse_caller_rates, "issue")):
        with pytest.raises(ValueError) as caught:
            parse({name: text})
        assert str(caught.value).startswith(f"{name}: {text!r} is no rate such as")
        assert "from 1 to 100000 calls, in whole seconds from 1s to 1d" in str(caught.value)


def test_largest_and_smallest_rates_are_accepted() -> None:
    rates = parse_caller_rates({"issue": "100000/1d", "refresh": "1/1s"})
    assert [str(rate) for rate in rates.values()] == ["100000/1d", "1/1s"]


@pytest.mark.parametrize("settings", [[], "x", 5, True, ["issue"]])
def test_rates_must_be_a_table(settings: Any) -> None:
    with pytest.raises(ValueError):
        parse_class_rates(settings)
    with pytest.raises(ValueError):
        parse_caller_rates(settings)


def test_mistakes_are_named_with_their_place() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy_book(
            tomllib.loads('[classifications.public]\nrates = { issue_per_clients = "1/1s" }'),
            {"internal.rates": "issue_per_client"},
        )
    first, second = caught.value.message.splitlines()[1:]
    assert first.strip().startswith(
        "classifications.public.rates: issue_per_clients: no such rate; allowed: "
    )
    assert first.endswith("did you mean issue_per_client?")
    assert second.strip().startswith("internal.rates: issue_per_client: '' is no rate")
    with pytest.raises(ConfigurationError) as of_caller:
        parse_callers({"callers": {"a": {"permissions": [], "rates": {"issue_per_client": "1/1s"}}}})
    assert "callers.a: rates: issue_per_client: no such rate; allowed: issue, " in of_caller.value.message


def test_policy_with_rates_can_be_hashed() -> None:
    policy = Policy(rates={(Operation.ISSUE, Bucket.CLIENT): Rate(1, 1)})
    assert hash(policy) == hash(Policy())
    assert policy != Policy()

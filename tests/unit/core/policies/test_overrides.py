"""Overrides of the policy file: their notation, their order and their problems."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from token_service.core.policies.overrides import (
    PolicyDifference,
    canonical,
    differences,
    notation,
    parse_override,
    values_of,
    with_overrides,
)
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import Policy, PolicyBook, Source, parse_policy_book
from token_service.errors import ConfigurationError

FILE = {"classifications": {"internal": {"access_token_ttl": "20m", "id_token_ttl": "4m"}}}


@pytest.mark.parametrize(
    ("path", "text", "stored"),
    [
        ("internal.access_token_ttl", '"300s"', '"5m"'),
        ("internal.access_token_ttl", "300", '"5m"'),
        ("internal.grace_period", '"0s"', '"0s"'),
        ("internal.rotate", "false", "false"),
        ("internal.max_retries", "7 # few", "7"),
        ("internal.reuse_response", "'subject'", '"subject"'),
        ("internal.default_audience", '["a", "b\\"c"]', '["a", "b\\"c"]'),
        ("internal.allowed_custom_claims", "[]", "[]"),
        (
            "internal.rates",
            '{ refresh_per_client = "60/60s", issue_per_client = "10/1s" }',
            '{ issue_per_client = "10/1s", refresh_per_client = "60/1m" }',
        ),
        ("internal.rates", "{}", "{}"),
    ],
)
def test_a_value_is_stored_in_one_form(path, text, stored):
    assert canonical(path, text, PolicyBook()) == stored
    assert canonical(path, stored, PolicyBook()) == stored


def test_every_setting_reads_its_own_notation():
    for policy in PolicyBook().policies.values():
        for each in fields(Policy):
            value = getattr(policy, each.name)
            assert parse_override(each.name, notation(each.name, value)) == value


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("rotate", "true", "is not CLASSIFICATION.SETTING"),
        ("internl.rotate", "true", "did you mean internal?"),
        ("internal.rotat", "true", "no such setting; did you mean rotate? allowed: access_token_ttl, "),
        ("internal.rotate", "maybe", "is not one value in the notation of the policy file"),
        ("internal.rotate", "true\nother = 1", "is not one value"),
        ("internal.rotate", "{", "is not one value"),
        ("internal.rotate", "[" * 5000, "is not one value"),
        ("internal.rotate", "1", "is neither true nor false"),
        ("internal.access_token_ttl", '"2h"', "is not from 1 to 3600"),
        ("internal.allowed_custom_claims", '["password"]', "which no request may set"),
        ("internal.rates", '{ issue = "1/1s" }', "no such rate"),
        ("callers.permissions", '["admin"]', "no classification 'callers'"),
    ],
)
def test_a_wrong_override_says_why(path, text, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        canonical(path, text, PolicyBook())


def test_default_file_environment_and_override_apply_in_this_order():
    environment = {"internal.id_token_ttl": "3m", "internal.idle_timeout": "2h"}
    book = with_overrides(parse_policy_book(FILE, environment), {"internal.idle_timeout": '"1h"'})
    policy = book.policies["internal"]
    assert (policy.refresh_token_ttl, policy.access_token_ttl, policy.id_token_ttl, policy.idle_timeout) == (
        14 * 86400,
        1200,
        180,
        3600,
    )
    sources = {each.path: each.source for each in values_of(book) if each.path.startswith("internal.")}
    assert sources["internal.refresh_token_ttl"] is Source.DEFAULT
    assert sources["internal.access_token_ttl"] is Source.FILE
    assert sources["internal.id_token_ttl"] is Source.ENVIRONMENT
    assert sources["internal.idle_timeout"] is Source.OVERRIDE


def test_differences_name_changed_added_and_lost_settings():
    before = parse_policy_book({"classifications": {"partner": {}}})
    after = with_overrides(PolicyBook(), {"public.rotate": "false"})
    found = list(differences(before, after))
    assert PolicyDifference("public.rotate", "true", "false") in found
    lost = {each.path for each in found if not each.after}
    assert lost == {f"partner.{each.name}" for each in fields(Policy)}
    assert len(found) == 1 + len(lost)


def test_an_override_that_contradicts_the_file_leaves_the_policies_and_waits_for_another_file():
    policies = Policies(parse_policy_book({"classifications": {"internal": {"grace_period": "5s"}}}))
    with pytest.raises(ConfigurationError, match=r"internal\.max_retries: 0 with a grace_period of 5 s"):
        policies.replace_overrides({"internal.max_retries": "0"})
    assert policies.of("web").max_retries == 100
    policies.replace_file(parse_policy_book({"classifications": {"internal": {"grace_period": "0s"}}}))
    assert policies.of("web").max_retries == 0


def test_a_file_that_contradicts_an_override_is_refused_as_a_whole():
    policies = Policies(parse_policy_book({"classifications": {"partner": {}}}))
    policies.replace_overrides({"partner.rotate": "false"})
    with pytest.raises(ConfigurationError, match=r"partner\.rotate: no classification 'partner'"):
        policies.replace_file(parse_policy_book(FILE))
    assert policies.of("web").access_token_ttl == 1800
    assert policies.book.policies["partner"].rotate is False
    policies.replace_overrides({})
    policies.replace_file(parse_policy_book(FILE))
    assert policies.of("web").access_token_ttl == 1200

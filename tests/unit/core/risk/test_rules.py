"""The rules of the policy file, and the advice about mistakes in them."""

from __future__ import annotations

import tomllib

import pytest

from token_service.core.policies.rates import Rate
from token_service.core.risk.rules import NO_RULES, RiskRules, parse_risk_rules
from token_service.core.risk.signals import ImpossibleTravel, IssuanceRate, NewCountry, RenewalRhythm
from token_service.core.risk.verdict import RiskAction
from token_service.errors import ConfigurationError


def parse(text: str) -> RiskRules:
    return parse_risk_rules(tomllib.loads(text), ["internal", "restricted"])


def test_without_rules_there_is_nothing_to_judge() -> None:
    assert parse("") is NO_RULES
    assert not parse("[risk]\ndry_run = true")


def test_rules_have_defaults_for_what_they_do_not_name() -> None:
    rules = parse("""
        [risk]
        dry_run = true
        locations = ["/etc/cities.mmdb"]

        [risk.rules.impossible_travel]
        speed = 900

        [risk.rules.issuance_rate]
        weight = 10
        rate = "5/10s"

        [risk.rules.new_country]

        [risk.rules.renewal_rhythm]
        part = 20
        times = 4

        [risk.thresholds.default]
        alert = 20
        refuse = 90

        [risk.thresholds.restricted]
        """)
    assert rules.signals == (
        IssuanceRate(weight=10, rate=Rate(5, 10)),
        RenewalRhythm(part=20, times=4),
        NewCountry(weight=30),
        ImpossibleTravel(weight=60, speed=900, distance=200),
    )
    assert rules.dry_run
    assert rules.locations == ("/etc/cities.mmdb",)
    assert rules.action("internal", 89) is RiskAction.ALERT
    assert rules.action("internal", 90) is RiskAction.REFUSE
    assert rules.action("restricted", 100) is RiskAction.NONE
    assert rules.find(NewCountry) == NewCountry()
    assert rules


def test_without_thresholds_a_score_of_30_alerts() -> None:
    rules = parse("risk.rules.new_country = {}")
    assert rules.action("internal", 29) is RiskAction.NONE
    assert rules.action("internal", 100) is RiskAction.ALERT


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("risk = 1", "risk: must be a table"),
        ("risk.dryrun = true", "risk.dryrun: no such setting; allowed: dry_run, locations, rules, thresholds; did you mean dry_run?"),
        ("risk.dry_run = 1", "risk.dry_run: 1 is neither true nor false"),
        ("risk.locations = 'x'", "risk.locations: 'x' is not a list of paths of MaxMind files"),
        ("risk.rules.new_contry = {}", "did you mean new_country?"),
        ("risk.rules.new_country = 30", "risk.rules.new_country: must be a table, such as { weight = 30 }"),
        ("risk.rules.new_country.weight = 101", "risk.rules.new_country.weight: 101 is not a whole number from 1 to 100"),
        ("risk.rules.new_country.weight = true", "True is not a whole number from 1 to 100"),
        ("risk.rules.new_country.speed = 900", "risk.rules.new_country.speed: no such setting; allowed: weight"),
        ("risk.rules.concurrent_use.window = 5", '5 is not a span such as "5m", from 1s to 1d'),
        ("risk.rules.issuance_rate.rate = '5'", "'5' is no rate such as \"60/1m\""),
        ("risk.thresholds.intrnal = {}", "no such classification; allowed: default, internal, restricted; did you mean internal?"),
        ("risk.thresholds.default = 30", "must be a table, such as { alert = 30, refuse = 80 }"),
        ("risk.thresholds.default.revoke = 30", "no such action; allowed: alert, step_up, refuse, revoke_session, revoke_subject"),
        ("risk.thresholds.default.alert = 0", "risk.thresholds.default.alert: 0 is not a score from 1 to 100"),
        (
            "risk.thresholds.default = { alert = 50, refuse = 40 }",
            "risk.thresholds.default.refuse: 40 is below alert = 50; a more severe action needs a score at least as high",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert advice in caught.value.message


def test_every_mistake_is_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("risk.dry_run = 1\nrisk.rules.x = {}\nrisk.thresholds.y = {}")
    assert caught.value.message.count("\n") == 3

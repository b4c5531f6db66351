"""The rules of automatic revocation in the policy file."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from token_service.core.administration.automatic.limits import LimitCheck
from token_service.core.administration.automatic.rules import (
    NO_RULES,
    AutomaticRules,
    Scope,
    SessionLimits,
    Threshold,
    parse_automatic_rules,
)
from token_service.core.policies.policy import PolicyBook, parse_policy_book
from token_service.errors import ConfigurationError

COMPLETE = """
[automatic_revocation]
interval = "30s"
sessions_per_minute = 600
dry_run = true

[automatic_revocation.classifications.restricted]
max_session_age = "8h"
max_inactivity = "30m"
on_classification_change = true

[automatic_revocation.classifications.public]

[automatic_revocation.thresholds.stolen]
actions = ["refresh_token.reused", "refresh_token.raced"]
count = 3
window = "10m"
per = "session"
revoke = "subject"
dry_run = true
"""


def parse(text: str) -> AutomaticRules:
    document: dict[str, Any] = tomllib.loads(text)
    return parse_automatic_rules(document, parse_policy_book(document))


def test_every_setting_is_read() -> None:
    assert parse("") == NO_RULES
    assert parse(COMPLETE) == AutomaticRules(
        interval=30,
        sessions_per_minute=600,
        dry_run=True,
        limits={
            "restricted": SessionLimits(
                max_session_age=8 * 3600, max_inactivity=1800, on_classification_change=True
            ),
            "public": SessionLimits(),
        },
        thresholds={
            "stolen": Threshold(
                name="stolen",
                actions=frozenset({"refresh_token.reused", "refresh_token.raced"}),
                count=3,
                window=600,
                per=Scope.SESSION,
                revoke=Scope.SUBJECT,
                dry_run=True,
            )
        },
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("automatic_revocation = 1", "automatic_revocation: must be a table"),
        ("[automatic_revocation]\nperiod = '1m'", "automatic_revocation.period: no such setting"),
        ("[automatic_revocation]\ninterval = '0s'", "automatic_revocation.interval: '0s' is not a span"),
        ("[automatic_revocation]\ninterval = 60", "automatic_revocation.interval: 60 is not a span"),
        ("[automatic_revocation]\nsessions_per_minute = 0", "sessions_per_minute: 0 is not a whole number"),
        ("[automatic_revocation]\ndry_run = 'yes'", "dry_run: 'yes' is neither true nor false"),
        (
            "[automatic_revocation.classifications.restrictd]\nmax_session_age = '1h'",
            "automatic_revocation.classifications.restrictd: no such classification; did you mean restricted?",
        ),
        (
            "[automatic_revocation.classifications.public]\nmax_session_age = '401d'",
            "classifications.public.max_session_age: '401d' is not a span",
        ),
        (
            "[automatic_revocation.thresholds.x]\ncount = 3",
            "thresholds.x: needs actions, window, per, revoke",
        ),
        (
            "[automatic_revocation.thresholds.x]\nactions = ['token.issued']",
            "thresholds.x.actions: ['token.issued'] is not a list of actions; allowed: ",
        ),
        ("[automatic_revocation.thresholds.x]\nper = 'device'", "per: 'device' is none of session, subject"),
        ("[automatic_revocation.thresholds.x]\ncount = 1001", "count: 1001 is not a whole number from 1"),
        ("[automatic_revocation.thresholds.'a b']\ncount = 1", "thresholds.a b: a name has up to 63"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(text)
    assert problem in raised.value.message


def test_all_mistakes_are_named_at_once() -> None:
    text = (
        "[automatic_revocation]\ninterval = 1\n[automatic_revocation.thresholds.x]\ncount = 0\nwindow = 'x'"
    )
    with pytest.raises(ConfigurationError) as raised:
        parse(text)
    assert len(raised.value.message.splitlines()) == 4


def test_without_a_limit_no_session_is_looked_at() -> None:
    def check(limits: SessionLimits, *, with_classification: bool = True) -> LimitCheck:
        return LimitCheck(
            {"public": limits},
            PolicyBook(),
            lambda _: "public",
            0.0,
            with_classification=with_classification,
        )

    assert check(SessionLimits()).where is None
    changing = SessionLimits(on_classification_change=True)
    assert check(changing).where is not None
    assert check(changing, with_classification=False).where is None

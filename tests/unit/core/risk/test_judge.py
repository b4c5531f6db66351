"""Verdicts: how evidence becomes a score, an action and a line of text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from msgspec import structs

from tests.unit.core.risk.scenes import ABROAD, CURL, HOME, NOW, FixedLocator, observe, seen
from token_service.core.limits import MAX_DEVICE_ID, MAX_IP_ADDRESS, MAX_USER_AGENT
from token_service.core.risk.history import MAX_ORIGINS, after
from token_service.core.risk.judge import RiskJudge
from token_service.core.risk.observation import History, Observation, Seen, Use
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.signals import SIGNALS, NewCountry, NewDevice, NewNetwork, RenewalRhythm
from token_service.core.risk.verdict import NO_RISK, Evidence, RiskAction

ALL = tuple(kind() for kind in SIGNALS)
THRESHOLDS = {
    "default": {RiskAction.ALERT: 30, RiskAction.STEP_UP: 60, RiskAction.REVOKE_SUBJECT: 100},
    "restricted": {RiskAction.REVOKE_SESSION: 15},
}

addresses = st.one_of(st.ip_addresses().map(str), st.text(max_size=MAX_IP_ADDRESS), st.just(HOME))
agents = st.text(max_size=MAX_USER_AGENT)
origins = st.builds(
    Seen,
    time=st.floats(0, 2e9),
    address=addresses,
    user_agent=agents,
    device_id=st.text(max_size=MAX_DEVICE_ID),
)
histories = st.builds(
    History,
    origins=st.lists(origins, max_size=MAX_ORIGINS).map(tuple),
    renewed=st.none() | st.floats(0, 2e9),
    quick_renewals=st.integers(0, 10),
    issuances=st.integers(0, 3),
    refusals=st.integers(0, 3),
    reuses=st.integers(0, 3),
)
observations = st.builds(
    Observation,
    use=st.sampled_from(Use),
    time=st.floats(0, 2e9),
    classification=st.sampled_from(["internal", "restricted", ""]),
    address=addresses,
    user_agent=agents,
    device_id=st.text(max_size=MAX_DEVICE_ID),
    access_token_ttl=st.floats(0, 1e6),
    history=histories,
)


@given(observations)
def test_every_observation_gets_a_verdict_from_0_to_100(observation: Observation) -> None:
    verdict = RiskJudge(RiskRules(ALL, THRESHOLDS), FixedLocator()).judge(observation)
    assert 0 <= verdict.score <= 100
    assert (verdict.score == 0) is (verdict.evidence == ())
    assert "\n" not in verdict.explain()
    assert len(after(observation, RenewalRhythm()).origins) <= MAX_ORIGINS


@given(observations, st.sets(st.sampled_from(ALL)), st.sets(st.sampled_from(ALL)))
def test_score_and_severity_grow_with_the_evidence(
    observation: Observation, some: set[object], others: set[object]
) -> None:
    fewer = RiskRules(tuple(each for each in ALL if each in some), THRESHOLDS)
    more = RiskRules(tuple(each for each in ALL if each in some | others), THRESHOLDS)
    less, greater = (RiskJudge(rules, FixedLocator()).judge(observation) for rules in (fewer, more))
    assert set(less.evidence) <= set(greater.evidence)
    assert less.score <= greater.score
    assert less.action.severity <= greater.action.severity


@given(observations)
def test_no_signal_repeats_personal_data(observation: Observation) -> None:
    marked = structs.replace(
        observation,
        address="address-of-alice",
        user_agent="agent-of-alice",
        device_id="device-of-alice",
        subject="subject-alice",
        session_id="session-of-alice",
    )
    verdict = RiskJudge(RiskRules(ALL, THRESHOLDS), FixedLocator()).judge(marked)
    assert "alice" not in verdict.explain()


def test_verdict_explains_itself() -> None:
    rules = RiskRules((NewDevice(weight=25), NewCountry(weight=40)), THRESHOLDS)
    judge = RiskJudge(rules, FixedLocator())
    verdict = judge.judge(observe(seen(HOME), address=ABROAD, user_agent=CURL))
    assert (
        verdict.explain() == "score 65: step up; new_device +25: another user agent than before; "
        "new_country +40: from AU, another country than before"
    )
    assert verdict.acts
    assert verdict.fields() == {
        "score": 65,
        "action": "step_up",
        "evidence": [
            {"signal": "new_device", "weight": 25, "detail": "another user agent than before"},
            {"signal": "new_country", "weight": 40, "detail": "from AU, another country than before"},
        ],
        "dry_run": False,
        "country": "AU",
    }
    trial = RiskJudge(replace(rules, dry_run=True), FixedLocator()).judge(
        observe(seen(HOME), address=ABROAD, user_agent=CURL)
    )
    assert trial.explain().startswith("score 65: step up (dry run); ")
    assert trial.action is RiskAction.STEP_UP
    assert not trial.acts


def test_weights_add_up_to_100_at_most() -> None:
    rules = RiskRules((NewDevice(weight=80), NewNetwork(weight=90)), THRESHOLDS)
    verdict = RiskJudge(rules).judge(observe(seen(HOME), address=ABROAD, user_agent=CURL))
    assert (verdict.score, verdict.action) == (100, RiskAction.REVOKE_SUBJECT)


@pytest.mark.parametrize(
    ("classification", "score", "action"),
    [
        ("internal", 29, RiskAction.NONE),
        ("internal", 30, RiskAction.ALERT),
        ("internal", 60, RiskAction.STEP_UP),
        ("internal", 99, RiskAction.STEP_UP),
        ("internal", 100, RiskAction.REVOKE_SUBJECT),
        ("restricted", 14, RiskAction.NONE),
        ("restricted", 15, RiskAction.REVOKE_SESSION),
    ],
)
def test_thresholds_depend_on_the_classification(classification: str, score: int, action: RiskAction) -> None:
    assert RiskRules(ALL, THRESHOLDS).action(classification, score) is action


def test_a_session_without_history_has_no_risk() -> None:
    assert RiskJudge(RiskRules(ALL, THRESHOLDS), FixedLocator()).judge(
        observe(address=HOME)
    ) == structs.replace(NO_RISK, country="DE")


def test_evidence_names_signal_weight_and_detail() -> None:
    verdict = RiskJudge(RiskRules((NewNetwork(weight=15),))).judge(observe(seen(HOME), address=ABROAD))
    assert verdict.evidence == (Evidence("new_network", 15, "another network than before"),)


def test_history_keeps_alike_origins_once_and_the_last_one_first() -> None:
    observation = observe(
        seen("2001:db8::1", 20, CURL), seen(HOME, 30), address="2001:db8::2", user_agent="curl/9.0"
    )
    assert after(observation).origins == (Seen(NOW, "2001:db8::2", "curl/9.0"), seen(HOME, 30))


def test_history_keeps_the_newest_origins() -> None:
    many = [seen(f"192.0.2.{place}", place) for place in range(1, MAX_ORIGINS + 1)]
    kept = after(observe(*many, address=ABROAD)).origins
    assert [each.address for each in kept] == [ABROAD, *(each.address for each in many[:-1])]


def test_history_counts_quick_renewals_until_a_slow_one() -> None:
    rhythm = RenewalRhythm(part=10)
    assert after(observe(renewed=NOW - 99, quick_renewals=1), rhythm).quick_renewals == 2
    assert after(observe(renewed=NOW - 100, quick_renewals=1), rhythm).quick_renewals == 0
    assert after(observe(renewed=NOW - 100), rhythm).renewed == NOW


def test_an_extension_is_no_renewal() -> None:
    history = after(observe(renewed=NOW - 50, quick_renewals=1, use=Use.EXTEND), RenewalRhythm())
    assert (history.renewed, history.quick_renewals) == (NOW - 50, 1)


def test_a_use_without_origin_leaves_the_origins() -> None:
    assert after(observe(seen(HOME), address="", user_agent="")).origins == (seen(HOME),)

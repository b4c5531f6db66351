"""The replay of recorded uses."""

from __future__ import annotations

from msgspec import structs

from token_service.core.risk.observation import Use
from token_service.core.risk.replay import RecordedUse, Replay
from token_service.core.risk.rules import parse_risk_rules

HOME = RecordedUse(
    time=1000.0,
    session_id="s-1",
    subject="alice",
    client_id="web",
    address="192.0.2.1",
    user_agent="Firefox/120",
)


def rules(**thresholds: int) -> Replay:
    document = {
        "risk": {
            "rules": {
                "new_device": {"weight": 40},
                "new_network": {"weight": 20},
                "refresh_token_reuse": {"weight": 40},
            },
            "thresholds": {"default": thresholds},
        }
    }
    return Replay(parse_risk_rules(document), None)


def at(time: float, **changes: object) -> RecordedUse:
    return structs.replace(HOME, time=time, **changes)


ABROAD = {"address": "203.0.113.5", "user_agent": "curl/8"}


async def test_verdict_has_its_effect_on_later_uses() -> None:
    uses = [
        at(1, use=Use.ISSUE),
        at(2),
        at(3, **ABROAD),
        at(4),
        at(5, session_id="s-2"),
    ]
    outcome = await rules(alert=30, revoke_session=60).replay(uses)
    assert (outcome.uses, outcome.sessions, outcome.prevented) == (5, 2, 1)
    assert dict(outcome.verdicts) == {"revoke_session": 1}
    assert outcome.sessions_with == {"revoke_session": {"s-1"}}
    ((use, verdict),) = outcome.examples
    assert (use.time, verdict.score, dict(outcome.signals)) == (3, 60, {"new_device": 1, "new_network": 1})


async def test_revoked_subject_keeps_later_sessions() -> None:
    uses = [at(1), at(2, session_id="s-2"), at(3, **ABROAD), at(4, session_id="s-2"), at(5, session_id="s-3")]
    outcome = await rules(revoke_subject=60).replay(uses)
    assert (outcome.prevented, dict(outcome.verdicts)) == (1, {"revoke_subject": 1})


async def test_alert_lets_the_new_origin_become_known() -> None:
    outcome = await rules(alert=30).replay([at(1), at(2, **ABROAD), at(3, **ABROAD)])
    assert dict(outcome.verdicts) == {"alert": 1}


async def test_refused_use_does_not_become_known() -> None:
    outcome = await rules(refuse=60).replay([at(1), at(2, **ABROAD), at(3, **ABROAD), at(4)])
    assert dict(outcome.verdicts) == {"refuse": 2}


async def test_dry_run_rules_end_nothing() -> None:
    document = {
        "risk": {
            "dry_run": True,
            "rules": {"new_device": {"weight": 90}},
            "thresholds": {"default": {"revoke_session": 50}},
        }
    }
    outcome = await Replay(parse_risk_rules(document), None).replay([at(1), at(2, **ABROAD), at(3)])
    assert (outcome.prevented, dict(outcome.verdicts)) == (0, {"revoke_session": 1})


async def test_reuse_ends_its_session_and_marks_the_subject() -> None:
    outcome = await rules(alert=40).replay([at(1), at(2, is_reuse=True), at(3), at(4, session_id="s-2")])
    assert (outcome.prevented, dict(outcome.verdicts)) == (1, {"alert": 1})
    assert outcome.examples[0][1].evidence[0].signal == "refresh_token_reuse"


async def test_same_uses_have_the_same_outcome() -> None:
    uses = [
        at(number, session_id=f"s-{number % 7}", **(ABROAD if number % 5 == 0 else {}))
        for number in range(1, 200)
    ]
    one, other = [await rules(alert=30, refuse=60).replay(uses) for _ in range(2)]
    assert one == other
    assert one.verdicts["refuse"] > 0

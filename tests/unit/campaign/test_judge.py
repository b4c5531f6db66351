"""The judge of the fault campaign passes a good history and finds and explains each kind of violation."""

from __future__ import annotations

import pytest

from tests.faults.campaign.checks.finding import Finding
from tests.faults.campaign.history import Record
from tests.faults.campaign.judge import Judge
from tests.faults.campaign.plan import GRACE
from tests.unit.campaign.recorded import (
    WALL,
    S,
    fault,
    good,
    passed,
    refreshed,
    refused_refresh,
    revoked,
    streamed,
    token,
    validated,
)
from token_service.tokens.revocation import MAX_LEEWAY

REVOKED_AT = 3.1
"""The time at which the good history acknowledges the revocation of the session of tokens 1 and 3."""


def judge(*more: Record) -> list[Finding]:
    one = Judge(S)
    one.feed([*good(), *more])
    return one.findings()


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [str(finding) for finding in findings]
    return findings[0]


def test_good_history_has_no_findings_and_all_its_records_are_counted() -> None:
    one = Judge(S)
    one.feed(good())
    assert one.findings() == []
    assert (one.freshness.accepted, one.freshness.refused, one.freshness.answers) == (6, 4, 2)
    assert one.refreshes.rotations == {"s1": 2}
    assert one.surroundings.count() == {"SIGSTOP of node": 1}
    assert one.processes.slowest == 5.0


def test_good_history_fed_in_parts_and_forgotten_has_no_findings() -> None:
    one = Judge(S)
    for record in good():
        one.feed([record])
        assert one.findings() == []
    one.forget(1000.0)
    assert one.findings() == []


def test_acceptance_begun_after_s_is_found_and_explained() -> None:
    found = only(judge(passed(REVOKED_AT + S + 0.5, REVOKED_AT + S + 0.51, ok="1,2", cursors=(0, 1))))
    assert found.kind == "accepted as fresh after S"
    for part in (
        "token 1 was accepted by validator validators0.1",
        "2.500 s after",
        "revocation 1 (session_id), sent -0.100 s, cursor epoch:1",
        "validator before: cursor epoch:0, proof +2.000 s to +4.000 s, set version 7",
        "cursor epoch:1",
        "fault: SIGSTOP of node (node0), -1.600 s to +0.900 s",
    ):
        assert part in found.text


def test_acceptance_begun_just_within_s_is_no_finding() -> None:
    assert judge(passed(REVOKED_AT + S - 0.001, 500.0, ok="1", cursors=(1, 2))) == []


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("token_id", "id2"),
        ("session_id", "s2"),
        ("subject", "user of s2"),
        ("client_id", "web"),
        ("key_id", "key1"),
        ("everything", ""),
    ],
)
def test_every_target_revokes_earlier_tokens(target: str, value: str) -> None:
    revocation = revoked(9, target, value, sent=70.0, acknowledged=70.1)
    late = passed(72.2, 72.3, ok="2", cursors=(2, 2))
    assert only(judge(*revocation, late)).kind == "accepted as fresh after S"
    # The revocation may miss a token that was issued after the revocation was sent.
    assert (
        judge(token(7, "s2", b=69.9, e=70.05), *revocation, passed(75.0, 75.1, ok="7", cursors=(2, 2))) == []
    )


def test_unacknowledged_revocation_allows_both_answers() -> None:
    assert (
        judge(
            passed(90.0, 90.1, ok="2", cursors=(2, 2)),
            passed(91.0, 91.1, no={"REVOKED": "2"}, cursors=(2, 2)),
        )
        == []
    )


def test_first_of_several_acknowledgments_counts() -> None:
    again = revoked(9, "session_id", "s1", sent=3.05, acknowledged=80.0)
    found = only(judge(*again, passed(REVOKED_AT + S + 0.1, 6.0, ok="1")))
    assert "revocation 1 " in found.text


def test_strong_answer_after_an_acknowledgment_is_found() -> None:
    found = only(judge(validated(1, b=REVOKED_AT + 0.001, strong=True, active=True)))
    assert found.kind == "a node answered that a revoked token is active"
    assert "CONSISTENCY_STRONG" in found.text
    assert judge(validated(1, b=REVOKED_AT - 0.001, strong=True, active=True)) == []


@pytest.mark.parametrize(
    ("early", "kinds"), [(1.0, []), (-1.0, ["a node answered that a revoked token is active"])]
)
def test_revocation_of_a_long_expired_token_guarantees_nothing(early: float, kinds: list[str]) -> None:
    """A node whose clock is an hour behind issues such a token and accepts it later."""
    sent = 20.0
    expired = token(7, "s7", b=19.0, e=19.1, exp=WALL + sent - MAX_LEEWAY - early)
    revocation = revoked(9, "token_id", "id7", sent=sent, acknowledged=20.1)
    found = judge(expired, *revocation, validated(7, b=20.2, active=True, strong=True))
    assert [finding.kind for finding in found] == kinds


def test_revocation_of_the_session_of_an_expired_token_counts() -> None:
    expired = token(7, "s7", b=19.0, e=19.1, exp=WALL + 20.0 - MAX_LEEWAY - 1.0)
    revocation = revoked(9, "session_id", "s7", sent=20.0, acknowledged=20.1)
    found = only(judge(expired, *revocation, validated(7, b=20.2, active=True, strong=True)))
    assert found.kind == "a node answered that a revoked token is active"


def test_last_proof_of_each_validator_is_known() -> None:
    one = Judge(S)
    one.feed(
        [{"k": "beat", "p": "validators0", "at": 5.0, "proven": {"validators0.0": 4.5, "validators0.1": 0.0}}]
    )
    one.feed(
        [{"k": "beat", "p": "validators0", "at": 5.5, "proven": {"validators0.0": 5.1, "validators0.1": 0.0}}]
    )
    assert one.proven == {"validators0.0": 5.1, "validators0.1": 0.0}


def test_local_answer_may_be_as_old_as_the_replica() -> None:
    assert judge(validated(1, b=REVOKED_AT + 9.9, strong=False, active=True)) == []
    found = only(judge(validated(1, b=REVOKED_AT + 10.1, strong=False, active=True)))
    assert "CONSISTENCY_LOCAL" in found.text


def test_acceptance_after_expiry_is_found_unless_the_clock_was_being_moved() -> None:
    late = passed(2.5, 2.6, ok="3", wall=WALL + 5.5)
    assert only(judge(late)).kind == "accepted after its expiry"
    moved = fault(2, "clock of validators set back by an hour", "validators0", 0.1, 2.4)
    assert judge(*moved, late) == []
    elsewhere = fault(2, "clock of validators set back by an hour", "validators3", 0.1, 2.4)
    assert only(judge(*elsewhere, late)).kind == "accepted after its expiry"


def test_refusal_without_a_revocation_is_found() -> None:
    found = only(judge(passed(2.5, 2.6, no={"REVOKED": "2"})))
    assert found.kind == "refused as revoked without a revocation"


def test_unanswered_attempt_may_hit_tokens_issued_after_the_next_acknowledgment() -> None:
    later = [token(8, "s2", b=72.0, e=72.1), passed(73.0, 73.1, no={"REVOKED": "8"}, cursors=(2, 2))]
    for attempts, count in ((1, 1), (2, 0)):
        records = [
            record
            for record in good()
            if record["k"] not in {"revoking", "revoked", "pass", "validated", "refresh_refused"}
        ]
        one = Judge(S)
        one.feed(
            [
                *records,
                *revoked(9, "subject", "user of s2", sent=70.0, acknowledged=71.0, attempts=attempts),
                *later,
            ]
        )
        assert len(one.findings()) == count


def test_two_successors_are_found() -> None:
    found = judge(refreshed("b", "other", b=2.6, e=2.65))
    assert [finding.kind for finding in found] == ["two successors of one refresh token"]


def test_token_accepted_after_its_successor_was_used_is_found() -> None:
    found = only(judge(refreshed("a", "b", b=2.7, e=2.8, first=2.0)))
    assert found.kind == "two live successors of one refresh token"
    # Concurrent with the exchange of the successor: either may have come first.
    assert judge(refreshed("a", "b", b=2.55, e=2.8, first=2.0)) == []


def test_refusal_of_a_retry_in_the_grace_period_is_found() -> None:
    refused = refused_refresh("x", "REFRESH_TOKEN_INVALID", b=1.5, e=1.6, first=1.4)
    assert only(judge(refused)).kind == "a refresh was refused in its grace period"


@pytest.mark.parametrize(
    "excuse",
    [
        revoked(9, "session_id", "s2", sent=1.45),
        revoked(9, "subject", "user of s2", sent=1.45),
        fault(2, "clock of node set ahead by an hour", "node0", 1.0, 1.2),
    ],
    ids=["session", "subject", "clock"],
)
def test_refusal_of_a_retry_with_a_cause_is_no_finding(excuse: list[Record]) -> None:
    assert (
        judge(*excuse, refused_refresh("x", "SESSION_REVOKED", b=1.5, e=1.6, first=1.4, session="s2")) == []
    )


def test_reuse_is_no_excuse_for_itself() -> None:
    refused = refused_refresh("x", "REFRESH_TOKEN_REUSED", b=1.5, e=1.6, first=1.4, session="s2")
    assert only(judge(refused)).kind == "a refresh was refused in its grace period"


def test_refusal_after_the_grace_period_is_no_finding() -> None:
    assert judge(refused_refresh("x", "REFRESH_TOKEN_REUSED", b=GRACE, e=GRACE, first=1.4)) == []


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (streamed(4.0, entries="3", cursor="epoch:3"), "a stream skipped entries"),
        (streamed(4.0, entries="", cursor="epoch:2"), "a cursor does not fit its entries"),
        (streamed(4.0, entries="", cursor="epoch:0"), "a cursor does not fit its entries"),
        (streamed(4.0, entries="2", cursor="epoch:1"), "a cursor does not fit its entries"),
        (streamed(4.0, cursor="other:2"), "a stream changed its epoch without a reset"),
        (streamed(4.0, reset=True, cursor="epoch:0"), "a snapshot goes back within its epoch"),
    ],
)
def test_stream_that_skips_or_goes_back_is_found(message: Record, kind: str) -> None:
    assert kind in {finding.kind for finding in judge(message)}


def test_stream_may_continue_in_another_epoch_after_a_reset_without_repetition() -> None:
    assert (
        judge(
            streamed(4.0, reset=True, cursor="other:0"),
            streamed(5.0, entries="1-2", cursor="other:2"),
            streamed(6.0, cursor="other:2"),
        )
        == []
    )


def test_cursor_of_a_validator_that_goes_back_is_found() -> None:
    found = only(judge(passed(70.0, 70.1, cursors=(1, 1))))
    assert (found.kind, "2 to 1" in found.text) == ("a validator's cursor went back within its epoch", True)
    restarted = {"k": "started", "p": "validators0", "at": 69.0, "names": ["validators0.1"]}
    assert judge(restarted, passed(70.0, 70.1, cursors=(1, 1))) == []


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (
            {
                "k": "rpc",
                "method": "IssueToken",
                "code": "INTERNAL",
                "reason": "INTERNAL",
                "text": "",
                "b": 1,
                "e": 2,
            },
            "IssueToken answered INTERNAL",
        ),
        (
            {"k": "ended", "p": "node1", "at": 5.0, "code": 1, "ready": True, "log": "why"},
            "node1 ended by itself",
        ),
        ({"k": "log", "p": "node1", "at": 5.0, "text": "Traceback"}, "node1 logged a defect"),
        ({"k": "memory", "p": "node0", "at": 5.0, "rss": 401.0}, "node0 uses too much memory"),
        (
            {"k": "rest", "b": 5.0, "at": 95.0, "missing": ["node1 is not ready (503)"]},
            "not everything came back",
        ),
        ({"k": "lost", "at": 5.0, "text": "session s1"}, "something acknowledged is lost"),
        (
            {"k": "certificate", "p": "node0", "at": 5.0, "served": False},
            "a replaced certificate is not served",
        ),
    ],
)
def test_forbidden_behavior_of_processes_is_found(record: Record, kind: str) -> None:
    assert only(judge(record)).kind == kind

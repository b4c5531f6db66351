from __future__ import annotations

from tests.unit.core.node import RecordingAudit
from token_service.core.access.caller import Caller
from token_service.core.access.quotas import exhausted
from token_service.core.access.refusals import IN_ALL, PER_CALLER, Refusals
from token_service.core.access.rights import Rights
from token_service.errors import InvalidRequestError, OverloadedError, PermissionDeniedError, RateLimitedError

DENIED = PermissionDeniedError("no", metadata={"permission": "admin"})


def caller(name: str) -> Caller:
    return Caller(name, Rights(), identity=name)


def unrecorded(audit: RecordingAudit) -> object:
    return audit.events[-1][1]["unrecorded"]


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_refusal_names_caller_call_and_missing_permission() -> None:
    audit = RecordingAudit()
    Refusals(audit, Time().monotonic).note(caller("gateway"), "ListSessions", DENIED)
    assert audit.events == [
        (
            "permission.denied",
            {
                "call_id": "ListSessions",
                "unrecorded": 0,
                "reason": "admin",
                "actor": "caller:gateway",
                "outcome": "denied",
            },
        )
    ]


def test_exhausted_quota_is_recorded_and_other_failures_are_not() -> None:
    audit = RecordingAudit()
    refusals = Refusals(audit, Time().monotonic)
    refusals.note(caller("a"), "RevokeToken", exhausted("waiting calls", 3, 1.0))
    refusals.note(caller("a"), "RevokeToken", OverloadedError("the server is busy", retry_after=1.0))
    refusals.note(caller("a"), "RevokeToken", InvalidRequestError.of("x", "is wrong"))
    refusals.note(caller("a"), "IssueToken", RateLimitedError(metadata={"bucket": "subject"}))
    assert [(name, fields["reason"]) for name, fields in audit.events] == [
        ("quota.exceeded", "waiting calls"),
        ("quota.exceeded", "rate of subject"),
    ]


def test_flood_of_one_caller_is_limited_and_counted_and_others_are_still_recorded() -> None:
    audit, time = RecordingAudit(), Time()
    refusals = Refusals(audit, time.monotonic)
    for _ in range(PER_CALLER + 5):
        refusals.note(caller("flood"), "GetSession", DENIED)
    assert len(audit.events) == PER_CALLER
    refusals.note(caller("other"), "GetSession", DENIED)
    assert unrecorded(audit) == 5
    time.now = 60.0
    refusals.note(caller("flood"), "GetSession", DENIED)
    assert unrecorded(audit) == 0
    assert len(audit.events) == PER_CALLER + 2


def test_flood_of_many_callers_is_limited() -> None:
    audit = RecordingAudit()
    refusals = Refusals(audit, Time().monotonic)
    for number in range(IN_ALL + 50):
        refusals.note(caller(f"caller-{number}"), "GetSession", DENIED)
    assert len(audit.events) == IN_ALL

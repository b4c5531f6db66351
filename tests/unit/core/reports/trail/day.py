"""A day of the audit trail with an event of every kind that reports count, in two chains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tests.support.memory_audit import MemoryAuditStore
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target

START: Final = 1_583_107_200.0
"""2020-03-02T00:00:00Z."""
HOUR: Final = 3600.0
END: Final = START + 24 * HOUR
FORMULA: Final = "=cmd|' /C calc'!A0"
MARKUP: Final = "<script>alert('report')</script>"
LOGIN: Final = Actor("caller", "spiffe://example.org/login", proof="certificate")
OLIVIA: Final = Actor("operator", "olivia", session_id="console-1")
ROTATION: Final = Actor.system("key rotation")


class DayClock:
    """The time at which rows are written; every event has a time of its own."""

    def now(self) -> float:
        return START

    def monotonic(self) -> float:
        return 0.0


def _at(hour: float, action: Action, actor: Actor, target: Target, **values: Any) -> AuditEvent:
    return AuditEvent(action=action, actor=actor, target=target, time=START + hour * HOUR, **values)


def _token(number: int, subject: str = "alice", session: str = "s-1", client: str = "web") -> Target:
    return Target("token", f"t-{number}", subject, session, client)


def first_chain() -> Iterator[AuditEvent]:
    home, abroad = Origin("192.0.2.1", "Firefox"), Origin("2001:db8:1:2::3", "curl")
    yield _at(-1, Action.TOKEN_ISSUED, LOGIN, _token(0))
    issued = {"token_types": ["ACCESS", "REFRESH"], "classification": "internal"}
    yield _at(0, Action.TOKEN_ISSUED, LOGIN, _token(1), origin=home, fields=issued)
    yield _at(1, Action.TOKEN_REFRESHED, LOGIN, _token(2), origin=home, fields={"generation": 1})
    yield _at(1.5, Action.TOKEN_REFRESHED, LOGIN, _token(3), origin=home, fields={"generation": 2})
    yield _at(1.6, Action.TOKEN_ISSUED, LOGIN, _token(4, "bob", "s-2", FORMULA), origin=abroad, fields=issued)
    yield _at(2, Action.TOKEN_EXCHANGED, LOGIN, _token(5, "bob", "s-2", "orders"), origin=abroad)
    theft = Target("refresh_token", "", "alice", "s-1", "web")
    yield _at(3, Action.REFRESH_TOKEN_RACED, LOGIN, theft, origin=home)
    yield _at(3.25, Action.REFRESH_TOKEN_REUSED, LOGIN, theft, origin=abroad, fields={"response": "session"})
    evidence = [
        {"signal": "new_country", "weight": 40, "detail": MARKUP},
        {"signal": "reuse", "weight": 35.4, "detail": ""},
    ]
    verdict = {"score": 75, "action": "revoke_session", "evidence": evidence, "country": "DE"}
    session = Target("session", "s-1", "alice", "s-1", "web")
    yield _at(3.5, Action.RISK_DETECTED, Actor.system("risk"), session, fields=verdict, origin=abroad)
    dry = {
        **verdict,
        "score": 41,
        "action": "alert",
        "evidence": evidence[:1],
        "country": "",
        "dry_run": True,
    }
    yield _at(3.75, Action.RISK_DETECTED, Actor.system("risk"), session, fields=dry, origin=abroad)
    yield _at(3.5, Action.REVOKED, Actor.system("risk"), session, reason="RISK", fields={"cause": "risk"})
    yield _at(24, Action.TOKEN_ISSUED, LOGIN, _token(6))


def second_chain() -> Iterator[AuditEvent]:
    key = Target("key", "k-1")
    algorithm = {"algorithm": "ES256"}
    yield _at(4, Action.SIGNING_KEY_PREPARED, ROTATION, key, fields={**algorithm, "state": "prepared"})
    yield _at(6, Action.SIGNING_KEY_ACTIVATED, ROTATION, key, fields={**algorithm, "state": "active"})
    yield _at(7, Action.MAC_KEY_PREPARED, ROTATION, Target("mac_key"), fields={"version": 2})
    yield _at(
        8,
        Action.REVOKED,
        OLIVIA,
        key,
        reason="KEY_COMPROMISED",
        comment="left in a backup",
        fields={"cursor": "e:7"},
    )
    changed = {
        "operation": "set",
        "revision": 1,
        "before": {"internal.rotate": None},
        "after": {"internal.rotate": "false"},
        "effect": {"internal.rotate": ["true", "false"], "internal.ttl": ["", "5m"]},
    }
    yield _at(9, Action.POLICIES_CHANGED, OLIVIA, Target("policies"), comment=FORMULA, fields=changed)
    client = Target("client", MARKUP, client_id=MARKUP)
    yield _at(10, Action.CLIENT_CREATED, OLIVIA, client, comment="a\nby_client,evil,1")
    aged = Target("subject", "carol", "carol")
    yield _at(
        11,
        Action.REVOKED,
        Actor.system("revocation"),
        aged,
        fields={"cause": "age", "rule": "classifications.internal"},
        comment="too old",
    )
    denied = {"outcome": Outcome.DENIED, "reason": "admin.write", "fields": {"unrecorded": 2}}
    yield _at(12, Action.PERMISSION_DENIED, LOGIN, Target("call", "RevokeSigningKey"), **denied)
    yield _at(12, Action.QUOTA_EXCEEDED, LOGIN, Target("call", "IssueToken"), reason="rate of client")
    failed = {"problem": "unknown secret", "unrecorded": 4}
    web = Target("client", "web", client_id="web")
    yield _at(
        13,
        Action.CLIENT_AUTHENTICATION_FAILED,
        Actor("caller", ""),
        web,
        fields=failed,
        origin=Origin("no address"),
    )
    yield _at(
        14,
        Action.REFUSALS_REPORTED,
        Actor.system("validators"),
        Target(),
        fields={"total": 3, "reasons": {"EXPIRED": 2, "REVOKED": 1}},
    )
    ended = {"sessions": 5, "ended_before": START, "clients": {"web": 3, "orders": 1}}
    yield _at(15, Action.SESSION_EXPIRED, Actor.system("janitor"), Target("sessions"), fields=ended)
    yield _at(16, Action.AUDIT_EVENTS_LOST, Actor.system("audit"), Target("audit"), fields={"count": 9})
    yield _at(
        17, Action.SECURITY_EVENT_RECEIVED, Actor.system("receiver"), Target("subject", "carol", "carol")
    )


def a_day() -> MemoryAuditStore:
    """Return the trail. Its range from `START` to `END` leaves out the first and the last event of `node-a`."""
    store = MemoryAuditStore(DayClock())
    store.chain_id = "node-a"
    store.add(list(first_chain()))
    store.chain_id = "node-b"
    store.add(list(second_chain()))
    return store

"""`SubjectStore` over every backend: the data about a subject, and its erasure in bounded parts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.contract.builders import NOW, a_draft, a_session, digest
from token_service.core.administration.subjects.store import PendingLogout, SubjectData
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import verify
from token_service.core.grants.device_requests import Approval, Decision, DeviceRequest
from token_service.core.logout.store import EndedSession
from token_service.tokens.revocation import RevocationTarget

LATER = NOW + 100
SYSTEM = Actor.system("test")
OPERATOR = Actor("operator", "desk")


async def add_session(stores, number: int, subject: str = "alice", **changes: Any) -> UUID:
    session = a_session(id=UUID(int=number), subject=subject, create_time=NOW + number, **changes)
    await stores.sessions.create(session, None)
    return session.id


def event(session: int = 0, subject: str = "", actor: Actor = SYSTEM, **changes: Any) -> AuditEvent:
    target = Target(
        "token", "t", subject=subject, session_id=str(UUID(int=session)) if session else "", client_id="web"
    )
    return AuditEvent(
        action=Action.TOKEN_ISSUED, actor=actor, target=target, origin=Origin("192.0.2.1", "curl"), **changes
    )


async def approve(stores, number: int, subject: str | None) -> None:
    request = DeviceRequest(
        user_code_digest=digest(f"user-{number}"), code_digest=digest(f"code-{number}"), client_id="tv",
        scopes=("read",), audience=(), expire_time=NOW + 600,
    )  # fmt: skip
    await stores.device_requests.add(request)
    if subject is not None:
        decision = Decision(Approval(subject=subject, revision=0))
        assert await stores.device_requests.decide(request.user_code_digest, decision, NOW)


async def fill(stores) -> None:
    """Data of alice, and of bob beside it."""
    await add_session(stores, 1)
    await add_session(stores, 2, personal_hash=digest("personal"), refresh_hash=None, name="backup")
    await add_session(stores, 3, "bob")
    for number, subject in enumerate((None, "alice", "bob", "alice")):
        await approve(stores, number, subject)
    await stores.logouts.plan([EndedSession(UUID(int=9), "web", "alice")], 0, 0, NOW)
    await stores.audit.append(
        [
            event(1, "alice"),
            event(1),
            event(4, "alice", comment="a remark"),  # its session is purged
            event(4),
            event(3, "bob"),
            event(0, "", Actor("caller", "desk", on_behalf_of="alice")),
            event(0, "bob", Actor("operator", "alice")),
        ]
    )


async def test_data_of_a_subject_is_found_and_counted(stores):
    await fill(stores)
    assert await stores.subjects.count("alice") == SubjectData(
        sessions=2, events=5, device_requests=2, logouts=1
    )
    assert await stores.subjects.count("bob") == SubjectData(sessions=1, events=2, device_requests=1)
    assert await stores.subjects.count("carol") == SubjectData()
    ids = [str(UUID(int=number)) for number in (1, 2, 4)]
    assert await stores.subjects.session_ids("alice", "", 10) == ids
    assert await stores.subjects.session_ids("alice", ids[0], 1) == ids[1:2]
    assert await stores.subjects.session_ids("alice", ids[2], 9) == []
    acts = await stores.subjects.acts("alice", limit=9, after=None)
    assert [(each.actor_kind, each.actor_name) for each in acts] == [("caller", "desk")]
    approved = await stores.subjects.device_requests("alice")
    assert [(each.client_id, each.approval) for each in approved] == [
        ("tv", {"subject": "alice", "revision": 0})
    ] * 2
    (logout,) = await stores.subjects.logouts("alice", 9)
    assert (logout.session_id, logout.client_id) == (UUID(int=9), "web")
    assert isinstance(logout, PendingLogout)


async def test_a_live_session_is_not_deleted(stores):
    await add_session(stores, 1)
    await add_session(stores, 2, idle_expire_time=LATER - 1)
    assert await stores.subjects.erase_sessions(OPERATOR, "alice", LATER, 10) == SubjectData(sessions=1)
    assert await stores.sessions.get(UUID(int=1)) is not None
    assert await stores.sessions.get(UUID(int=2)) is None
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
    await add_session(stores, 3)  # a login after the revocation
    assert await stores.subjects.erase_sessions(OPERATOR, "alice", LATER, 10) == SubjectData(sessions=1)
    assert await stores.subjects.erase_sessions(OPERATOR, "alice", LATER, 10) == SubjectData()
    assert await stores.sessions.get(UUID(int=3)) is not None


async def test_a_session_is_deleted_after_its_events_are_erased(stores):
    """An erasure that stops in between would otherwise lose the id that finds the events."""
    await add_session(stores, 1)
    await stores.audit.append([event(1) for _ in range(3)])
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
    erase = stores.subjects.erase_sessions
    assert await erase(OPERATOR, "alice", LATER, 2) == SubjectData(events=2)
    assert await stores.sessions.get(UUID(int=1)) is not None
    assert await erase(OPERATOR, "alice", LATER, 2) == SubjectData(sessions=1, events=1)
    assert await stores.sessions.get(UUID(int=1)) is None


async def test_an_erasure_in_parts_leaves_nothing_of_the_subject_and_an_intact_trail(stores):
    await fill(stores)
    await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
    while await stores.subjects.erase_sessions(OPERATOR, "alice", LATER, 1) != SubjectData():
        pass
    assert await stores.subjects.erase_device_requests("alice") == 2
    assert await stores.subjects.erase_device_requests("alice") == 0
    parts = 0
    while (erased := await stores.subjects.erase_events(OPERATOR, "alice", 1)) > 0:
        assert erased == 1
        parts += 1
    assert parts == 3  # two of the purged session, and one on behalf of the subject
    assert await stores.subjects.count("alice") == SubjectData(logouts=1)
    assert await stores.subjects.count("bob") == SubjectData(sessions=1, events=2, device_requests=1)
    rows = await stores.audit.list(AuditFilter(), limit=99, after=None)
    assert "alice" not in {text for row in rows for text in (row.subject, row.on_behalf_of)}
    assert {row.comment for row in rows if row.is_erased} == {""}
    assert sum(row.is_erased for row in rows) == 5
    result = await verify(stores.audit)
    assert (result.findings, result.erased) == ([], 5)


async def test_an_event_of_a_session_alone_is_erased_before_the_events_that_find_it(stores):
    await stores.audit.append([event(4, "alice"), event(4)])
    assert await stores.subjects.erase_events(OPERATOR, "alice", 1) == 1
    (named,) = await stores.audit.list(AuditFilter(subject="alice"), limit=9, after=None)
    assert not named.is_erased
    assert await stores.subjects.erase_events(OPERATOR, "alice", 1) == 1
    assert await stores.subjects.erase_events(OPERATOR, "alice", 1) == 0

"""`SessionStore.raise_context` over every backend, and its races with all that changes a session besides."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, an_amendment
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditFilter
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import RAISES, Raise
from token_service.tokens.claims import AuthContext
from token_service.tokens.revocation import RevocationTarget

BEFORE = AuthContext("pwd", ("pwd",), 100)
AFTER = AuthContext("mfa", ("pwd", "otp"), 200)


def a_raise(session: Session, /, **changes: Any) -> Raise:
    values: dict[str, Any] = {
        "session_id": session.id,
        "client_id": session.client_id,
        "now": NOW + 10,
        "expected": session.auth_context,
        "auth_context": AFTER,
        "grant_id": "grant-1",
        "expire_time": NOW + 60,
    }
    return Raise(**{**values, **changes})


async def created(stores, **changes):
    session, _ = await stores.sessions.create(a_session(**{"auth_context": BEFORE, **changes}), None)
    return session


async def test_raise_sets_the_context_and_keeps_the_rest(stores):
    for context in (BEFORE, None):
        session = await created(stores, auth_context=context, custom_claims={"team": "blue"})
        answer = await stores.sessions.raise_context(a_raise(session, grant_id=f"of {context}"))
        assert answer == (replace(session, auth_context=AFTER), True)
        assert await stores.sessions.get(session.id) == replace(session, auth_context=AFTER)


async def test_grant_raises_once(stores):
    session = await created(stores)
    other = await created(stores)
    await stores.sessions.raise_context(a_raise(session))
    raised = replace(session, auth_context=AFTER)
    assert await stores.sessions.raise_context(a_raise(raised)) == (None, False)
    assert await stores.sessions.raise_context(a_raise(other)) == (None, False)
    assert (await stores.sessions.get(other.id)).auth_context == BEFORE
    assert not await stores.used_ids.use(RAISES, "grant-1", NOW + 60, NOW + 11)


async def test_raise_that_does_not_match_leaves_row_and_grant_unused(stores):
    session = await created(stores)
    revoked = await created(stores)
    idle = await created(stores, idle_expire_time=NOW + 10)
    await stores.log.append([a_draft(RevocationTarget.SESSION, revoked.id)])
    for command in (
        a_raise(session, expected=None),
        a_raise(session, expected=AFTER),
        a_raise(session, client_id="other"),
        a_raise(revoked),
        a_raise(idle),
        a_raise(a_session(auth_context=BEFORE)),
    ):
        assert await stores.sessions.raise_context(command) == (None, True)
    assert (await stores.sessions.get(session.id)).auth_context == BEFORE
    row, _ = await stores.sessions.raise_context(a_raise(session))
    assert row.auth_context == AFTER


async def test_raise_and_its_event_are_one_change(stores):
    session = await created(stores)
    event = AuditEvent(
        action=Action.SESSION_UPDATED,
        actor=Actor("caller", "app"),
        target=Target("session_update", session_id="s-1"),
        time=NOW,
    )
    await stores.sessions.raise_context(a_raise(session, expected=None), [event])
    await stores.sessions.raise_context(a_raise(session), [event])
    await stores.sessions.raise_context(a_raise(session), [event])
    rows = await stores.audit.list(AuditFilter(session_id="s-1"), limit=10, after=None)
    assert [row.action for row in rows] == ["session.updated"]


async def test_one_of_concurrent_uses_of_a_grant_raises(pair):
    session = await created(pair[0])
    answers = await asyncio.gather(*(pair[n % 2].sessions.raise_context(a_raise(session)) for n in range(12)))
    assert sorted(first for _, first in answers) == [False] * 11 + [True]
    assert sum(row is not None for row, _ in answers) == 1


async def test_one_of_concurrent_grants_raises_and_the_others_stay_unused(pair):
    session = await created(pair[0])
    contexts = [AuthContext("mfa", auth_time=200 + n) for n in range(8)]
    answers = await asyncio.gather(
        *(
            pair[n % 2].sessions.raise_context(
                a_raise(session, grant_id=f"grant-{n}", auth_context=contexts[n])
            )
            for n in range(8)
        )
    )
    (winner,) = [n for n, (row, _) in enumerate(answers) if row is not None]
    assert all(unused for _, unused in answers)
    assert (await pair[0].sessions.get(session.id)).auth_context == contexts[winner]
    for n in range(8):
        assert await pair[1].used_ids.use(RAISES, f"grant-{n}", NOW + 60, NOW + 11) is (n != winner)


async def test_raise_and_rotation_both_take_place(pair):
    for n in range(8):
        session = await created(pair[0])
        rotated, (raised, _) = await asyncio.gather(
            pair[0].sessions.rotate(a_rotation(session.id)),
            pair[1].sessions.raise_context(a_raise(session, grant_id=f"grant-{n}")),
        )
        assert rotated.auth_context in (BEFORE, AFTER)
        row = await pair[0].sessions.get(session.id)
        assert (row.generation, row.auth_context, raised.auth_context) == (1, AFTER, AFTER)


async def test_raise_never_overwrites_a_concurrent_update(pair):
    update = AuthContext("none", ("risk",), 300)
    for n in range(16):
        session = await created(pair[0])
        change = an_amendment(session, auth_context=update, with_auth_context=True)
        await asyncio.gather(
            pair[n % 2].sessions.raise_context(a_raise(session, grant_id=f"grant-{n}")),
            pair[1 - n % 2].sessions.amend(change),
        )
        assert (await pair[0].sessions.get(session.id)).auth_context == update


async def test_raise_after_a_revocation_changes_nothing(pair):
    for n in range(8):
        session = await created(pair[0])
        target = (
            (RevocationTarget.SESSION, session.id) if n % 2 else (RevocationTarget.SUBJECT, session.subject)
        )
        (raised, unused), _ = await asyncio.gather(
            pair[0].sessions.raise_context(a_raise(session, grant_id=f"grant-{n}")),
            pair[1].log.append([a_draft(*target)]),
        )
        assert unused
        row = await pair[0].sessions.get(session.id)
        assert row.auth_context == (BEFORE if raised is None else AFTER)
        again = a_raise(row, grant_id=f"late-{n}")
        assert await pair[0].sessions.raise_context(again) == (None, True)

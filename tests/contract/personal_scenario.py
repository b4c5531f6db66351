"""A scenario that stores every kind of personal data, and a raw dump of a database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, an_amendment, digest
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target
from token_service.core.grants.device_requests import Approval, Decision, DeviceRequest
from token_service.core.logout.store import EndedSession
from token_service.core.revocation.drafts import event_of
from token_service.core.sessions.store import Judged
from token_service.tokens.revocation import RevocationTarget

SUBJECTS: Final = ("alice-personal", "bob-personal", "carol-personal")
ALICE, BOB, CAROL = SUBJECTS
CLAIMS: Final = {"employee": "claim-personal", "big": 2**70, "nested": {"Å": [1.5, None]}}
IDENTITY: Final = {"name": "identity-personal", "email_verified": True}
PERSONAL: Final = (
    *SUBJECTS,
    *("claim-personal", "identity-personal", "device-personal", "upstream-personal", "name-personal"),
    *("198.51.100.7", "203.0.113.9", "created-agent", "last-agent", "event-agent", "why-personal"),
)
"""The texts that an encrypted database must not hold."""
SESSION_ID, RETIRED_ID, TOKEN_ID = UUID(int=1), UUID(int=2), UUID(int=3)
USER_CODE: Final = digest("user code")
SESSION: Final = a_session(
    id=SESSION_ID,
    subject=ALICE,
    device_id="device-personal",
    custom_claims=CLAIMS,
    identity_claims=IDENTITY,
    upstream="corporate",
    upstream_session="upstream-personal",
)
CREATED: Final = Origin("198.51.100.7", "created-agent")
LAST: Final = Origin("203.0.113.9", "last-agent")
ACTOR: Final = Actor("caller", "login", on_behalf_of=BOB)


async def fill(stores: Any) -> None:
    """Store the personal data."""
    await stores.sessions.create(SESSION, digest("request"), CREATED)
    judged = Judged(expected_tag=b"", tag=b"tag", origins='[["198.51.100.7", "last-agent"]]')
    rotation = a_rotation(SESSION_ID, device_id="device-personal", origin=LAST, judged=judged)
    assert await stores.sessions.rotate(rotation) is not None
    later = {**CLAIMS, "second": "claim-personal-2"}
    await stores.sessions.amend(an_amendment(SESSION, custom_claims=later))
    await stores.sessions.create(
        a_session(id=RETIRED_ID, subject=BOB, custom_claims={"a": "claim-personal"}), None, CREATED
    )
    await stores.sessions.create(
        a_session(
            id=TOKEN_ID,
            subject=CAROL,
            refresh_hash=None,
            personal_hash=digest("token"),
            name="name-personal",
        ),
        None,
    )
    origin = Origin("203.0.113.9", "event-agent")
    event = AuditEvent(
        action=Action.TOKEN_ISSUED,
        actor=ACTOR,
        target=Target("token", "t-1", ALICE, str(SESSION_ID), "web"),
        comment="why-personal",
        origin=origin,
        time=NOW,
    )
    await stores.audit.append([event])
    revoked = a_draft(RevocationTarget.SUBJECT, BOB, comment="why-personal")
    revoked = replace(revoked, event=event_of(revoked, ACTOR, origin))
    await stores.log.append([revoked])
    await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t-1", comment="why-personal")])
    assert await stores.logouts.plan([EndedSession(RETIRED_ID, "web", BOB)], 0, 1, NOW)
    request = DeviceRequest(
        user_code_digest=USER_CODE,
        code_digest=digest("code"),
        client_id="tv",
        scopes=("read",),
        audience=("api",),
        expire_time=NOW + 600,
    )
    await stores.device_requests.add(request)
    approval = Approval(subject=ALICE, revision=0, custom_claims=CLAIMS, identity_claims=IDENTITY)
    assert await stores.device_requests.decide(USER_CODE, Decision(approval), NOW)


async def dump(stores: Any) -> list[tuple[str, str, object]]:
    """Return all values of all columns of all tables: (table, column, value)."""
    found: list[tuple[str, str, object]] = []
    async with stores._database.engine.connect() as connection:
        tables = sa.MetaData()
        await connection.run_sync(tables.reflect)
        for table in tables.sorted_tables:
            for row in await connection.execute(sa.select(table)):
                found += [(table.name, name, value) for name, value in row._asdict().items()]
    return found


def leaks(values: list[tuple[str, str, object]]) -> set[tuple[str, str, str]]:
    """Return the personal texts in a dump: (table, column, text)."""
    found = set()
    for table, column, value in values:
        raw = value if isinstance(value, bytes) else str(value).encode()
        found |= {(table, column, text) for text in PERSONAL if text.encode() in raw}
    return found

"""Judged uses and races in the `SessionStore`, over every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.contract.builders import NOW, a_draft, a_retry, a_rotation, a_session, a_use, digest
from token_service.core.events.event import Action, Actor, AuditEvent, Origin
from token_service.core.events.store import AuditFilter
from token_service.core.sessions.store import Judged, Race
from token_service.tokens.revocation import RevocationTarget

HERE, THERE = Origin("192.0.2.1", "agent"), Origin("203.0.113.9", "agent")


async def created(stores: Any, **changes: Any) -> Any:
    session, _ = await stores.sessions.create(a_session(**changes), None, HERE)
    return session


async def judged_of(stores: Any, session: Any) -> tuple[bytes, str]:
    details = await stores.sessions.describe(session.id)
    return details.origin_tag, details.origins


def a_race(session: Any, **changes: Any) -> Race:
    values: dict[str, Any] = {"session_id": session.id, "generation": 0, "max_races": 3, "now": NOW + 10}
    return Race(**{**values, **changes})


class TestJudged:
    async def test_new_session_has_no_tag_and_no_origins(self, stores):
        assert await judged_of(stores, await created(stores)) == (b"", "")

    async def test_rotation_keeps_tag_and_origins(self, stores):
        session = await created(stores)
        row = await stores.sessions.rotate(
            a_rotation(session.id, judged=Judged(expected_tag=b"", tag=b"one", origins="[1]"))
        )
        assert row == replace(
            session,
            generation=1,
            refresh_hash=digest("1"),
            previous_hash=digest("0"),
            key_version=1,
            rotate_time=NOW + 10,
            last_use_time=NOW + 10,
            idle_expire_time=NOW + 3610,
        )
        assert await judged_of(stores, session) == (b"one", "[1]")
        judged = Judged(expected_tag=b"one", tag=b"")
        assert await stores.sessions.rotate(a_rotation(session.id, 1, judged=judged)) is not None
        assert await judged_of(stores, session) == (b"", "[1]")

    async def test_rotation_without_judgment_leaves_them(self, stores):
        session = await created(stores)
        judged = Judged(expected_tag=b"", tag=b"one", origins="[1]")
        await stores.sessions.rotate(a_rotation(session.id, judged=judged))
        await stores.sessions.rotate(a_rotation(session.id, 1))
        assert await judged_of(stores, session) == (b"one", "[1]")

    async def test_other_tag_than_expected_is_refused(self, stores):
        session = await created(stores)
        for expected in (b"one", b"\0"):
            judged = Judged(expected_tag=expected, tag=b"two")
            assert await stores.sessions.rotate(a_rotation(session.id, judged=judged)) is None
        await stores.sessions.rotate(a_rotation(session.id, judged=Judged(expected_tag=b"", tag=b"one")))
        for expected in (b"", b"two"):
            judged = Judged(expected_tag=expected, tag=b"three")
            assert await stores.sessions.rotate(a_rotation(session.id, 1, judged=judged)) is None
        assert await judged_of(stores, session) == (b"one", "")

    async def test_rotation_too_soon_after_the_last_one_is_refused(self, stores):
        session = await created(stores)
        early = Judged(expected_tag=b"", tag=b"one", renewed_by=NOW - 0.000001)
        assert await stores.sessions.rotate(a_rotation(session.id, judged=early)) is None
        in_time = replace(early, renewed_by=NOW)
        assert await stores.sessions.rotate(a_rotation(session.id, judged=in_time)) is not None

    async def test_retry_needs_the_tag_of_the_rotation(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id, judged=Judged(expected_tag=b"", tag=b"one")))
        other, same = Judged(expected_tag=b"two", tag=b"x"), Judged(expected_tag=b"one", tag=b"x")
        assert await stores.sessions.retry(a_retry(session.id, judged=other)) is None
        row = await stores.sessions.retry(a_retry(session.id, judged=same))
        assert row.retries == 1
        assert await judged_of(stores, session) == (b"one", "")

    async def test_use_of_the_current_token_keeps_tag_and_origins(self, stores):
        session = await created(stores)
        judged = Judged(expected_tag=b"", tag=b"one", origins="[1]", renewed_by=NOW)
        use = a_use(session.id, refresh_hash=digest("0"), origin=THERE, judged=judged)
        assert (await stores.sessions.use(use)).last_use_time == NOW + 10
        assert await judged_of(stores, session) == (b"one", "[1]")
        assert (await stores.sessions.describe(session.id)).last_used_from == THERE
        assert await stores.sessions.use(use) is None
        again = replace(judged, expected_tag=b"one")
        assert await stores.sessions.use(replace(use, judged=again)) is None  # the last use was too recent
        assert await stores.sessions.use(replace(use, judged=replace(again, renewed_by=NOW + 10))) is not None

    async def test_concurrent_uses_that_saw_one_row_are_accepted_once(self, pair):
        session = await created(pair[0])
        uses = [
            a_use(
                session.id,
                refresh_hash=digest("0"),
                judged=Judged(expected_tag=b"", tag=f"{n}".encode(), origins=f"[{n}]"),
            )
            for n in range(32)
        ]
        rows = await asyncio.gather(*(pair[n % 2].sessions.use(use) for n, use in enumerate(uses)))
        winners = [n for n, row in enumerate(rows) if row is not None]
        assert len(winners) == 1
        assert await judged_of(pair[1], session) == (f"{winners[0]}".encode(), f"[{winners[0]}]")

    async def test_concurrent_judged_and_unjudged_rotations_have_one_winner(self, pair):
        session = await created(pair[0])
        calls = [
            pair[n % 2].sessions.rotate(
                a_rotation(
                    session.id,
                    next_hash=digest(f"next {n}"),
                    judged=(None, Judged(expected_tag=b"", tag=b"t"))[n // 2 % 2],
                )
            )
            for n in range(32)
        ]
        assert sum(row is not None for row in await asyncio.gather(*calls)) == 1


class TestRace:
    async def test_is_counted_up_to_the_maximum(self, stores):
        session = await created(stores)
        counted = [await stores.sessions.race(a_race(session)) for _ in range(4)]
        assert counted == [True, True, True, False]
        assert await stores.sessions.get(session.id) == session

    async def test_rotation_does_not_start_the_count_again(self, stores):
        session = await created(stores)
        for _ in range(3):
            await stores.sessions.race(a_race(session))
        await stores.sessions.rotate(a_rotation(session.id))
        assert not await stores.sessions.race(a_race(session, generation=1))

    async def test_needs_the_row_that_was_judged(self, stores):
        session = await created(stores)
        assert not await stores.sessions.race(a_race(session, generation=1))
        assert not await stores.sessions.race(a_race(session, now=NOW + 3600))

    async def test_revoked_session_has_none(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(RevocationTarget.SESSION, session.id)])
        assert not await stores.sessions.race(a_race(session))

    async def test_writes_its_event_only_when_it_counts(self, stores):
        session = await created(stores)
        event = AuditEvent(action=Action.REFRESH_TOKEN_RACED, actor=Actor.system("test"))
        assert await stores.sessions.race(a_race(session, max_races=1), [event])
        assert not await stores.sessions.race(a_race(session, max_races=1), [event])
        page = await stores.audit.list(AuditFilter(), limit=10, after=None)
        assert [each.action for each in page] == [Action.REFRESH_TOKEN_RACED]

    async def test_concurrent_races_never_exceed_the_maximum(self, pair):
        session = await created(pair[0])
        calls = [pair[n % 2].sessions.race(a_race(session)) for n in range(32)]
        assert sum(await asyncio.gather(*calls)) == 3


class TestVerdict:
    async def test_event_of_the_verdict_is_written_with_the_revocation(self, stores):
        session = await created(stores)
        verdict = AuditEvent(action=Action.RISK_DETECTED, actor=Actor.system("test"))
        event = AuditEvent(action=Action.REVOKED, actor=Actor.system("test"))
        draft = a_draft(RevocationTarget.SESSION, session.id, verdict=verdict, event=event)
        for _ in range(2):  # the second one is left out with its events
            await stores.log.append([draft])
        page = await stores.audit.list(AuditFilter(), limit=10, after=None)
        assert [each.action for each in page] == [Action.REVOKED, Action.RISK_DETECTED]  # the newest first

"""The origin and the end of sessions, in `SessionStore.describe` and `SessionStore.list` over every backend."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.contract.builders import NOW, a_draft, a_retry, a_rotation, a_session, a_use, digest
from token_service.core.events.event import NO_ORIGIN, Actor, Origin
from token_service.core.sessions.details import Floor, SessionDetails, SessionEnd
from token_service.core.sessions.store import SessionFilter
from token_service.stores.sql.schema import revocation_floors
from token_service.tokens.revocation import RevocationReason, RevocationTarget

HOME = Origin("192.0.2.1", "älïce's browser 🙂")
TRAIN = Origin("2001:db8::7", "another browser")
SESSION = RevocationTarget.SESSION
SUBJECT = RevocationTarget.SUBJECT
CLIENT = RevocationTarget.CLIENT
EVERYTHING = RevocationTarget.EVERYTHING
LOGOUT = RevocationReason.LOGOUT
COMPROMISED = RevocationReason.COMPROMISED


async def created(stores, origin=NO_ORIGIN, request=None, **changes):
    session, _ = await stores.sessions.create(a_session(**changes), request, origin)
    return session


async def described(stores, session) -> SessionDetails:
    """Return the details of a session, which a list must show alike."""
    details: SessionDetails = await stores.sessions.describe(session.id)
    page = await stores.sessions.list(
        SessionFilter.SUBJECT, session.subject, live_at=None, limit=100, after=None
    )
    assert [other for other in page if other.session.id == session.id] == [details]
    assert details.session == await stores.sessions.get(session.id)
    return details


async def origins(stores, session) -> tuple[Origin, Origin]:
    details = await described(stores, session)
    return details.created_from, details.last_used_from


class TestOrigin:
    async def test_unknown_session_has_no_details(self, stores):
        assert await stores.sessions.describe(uuid4()) is None

    @pytest.mark.parametrize("origin", [NO_ORIGIN, HOME, Origin("192.0.2.1"), Origin("", "browser")])
    async def test_of_a_new_session_is_the_origin_of_its_creation(self, stores, origin):
        session = await created(stores, origin)
        assert await described(stores, session) == SessionDetails(session, origin, origin)

    async def test_rotation_changes_the_origin_of_the_last_use(self, stores):
        session = await created(stores, HOME)
        await stores.sessions.rotate(a_rotation(session.id, origin=TRAIN))
        assert await origins(stores, session) == (HOME, TRAIN)

    async def test_rotation_without_an_origin_keeps_the_last_one(self, stores):
        session = await created(stores, HOME)
        await stores.sessions.rotate(a_rotation(session.id))
        assert await origins(stores, session) == (HOME, HOME)
        await stores.sessions.rotate(a_rotation(session.id, 1, origin=TRAIN))
        await stores.sessions.rotate(a_rotation(session.id, 2))
        assert await origins(stores, session) == (HOME, TRAIN)

    @pytest.mark.parametrize("origin", [Origin("192.0.2.9"), Origin("", "browser")])
    async def test_address_and_user_agent_of_two_uses_are_never_mixed(self, stores, origin):
        session = await created(stores, HOME)
        await stores.sessions.rotate(a_rotation(session.id, origin=TRAIN))
        await stores.sessions.rotate(a_rotation(session.id, 1, origin=origin))
        assert await origins(stores, session) == (HOME, origin)

    async def test_session_created_without_an_origin_gets_one_at_its_use(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id, origin=TRAIN))
        assert await origins(stores, session) == (NO_ORIGIN, TRAIN)

    async def test_refused_rotation_and_retry_change_nothing(self, stores):
        session = await created(stores, HOME)
        assert await stores.sessions.rotate(a_rotation(session.id, 1, origin=TRAIN)) is None
        await stores.sessions.rotate(a_rotation(session.id))
        assert await stores.sessions.retry(a_retry(session.id)) is not None
        assert await origins(stores, session) == (HOME, HOME)

    async def test_refresh_without_rotation_changes_it_and_other_uses_keep_it(self, stores):
        session = await created(stores, HOME)
        await stores.sessions.use(a_use(session.id, refresh_hash=digest("0"), origin=TRAIN))
        assert await origins(stores, session) == (HOME, TRAIN)
        await stores.sessions.use(a_use(session.id, refresh_hash=digest("0")))
        await stores.sessions.use(a_use(session.id))
        assert await origins(stores, session) == (HOME, TRAIN)

    async def test_repeated_request_keeps_the_origin_of_the_first(self, stores):
        session = await created(stores, HOME, digest("request"))
        assert await created(stores, TRAIN, digest("request")) == session
        assert await origins(stores, session) == (HOME, HOME)

    async def test_concurrent_rotations_set_the_origin_of_the_one_that_won(self, pair):
        session = await created(pair[0], HOME)
        for generation in range(5):
            answers = await asyncio.gather(
                *(
                    pair[n % 2].sessions.rotate(
                        a_rotation(
                            session.id, generation, origin=Origin(f"192.0.2.{n}", f"browser {generation} {n}")
                        )
                    )
                    for n in range(16)
                )
            )
            (winner,) = [n for n, answer in enumerate(answers) if answer is not None]
            expected = Origin(f"192.0.2.{winner}", f"browser {generation} {winner}")
            assert await origins(pair[0], session) == (HOME, expected)

    async def test_erasing_a_person_from_the_audit_trail_keeps_it(self, stores):
        session = await created(stores, HOME)
        await stores.audit.erase(Actor("operator", "root"), "alice")
        assert await origins(stores, session) == (HOME, HOME)

    async def test_purged_session_has_no_details(self, stores):
        session = await created(stores, HOME, idle_expire_time=NOW + 1)
        assert await stores.sessions.purge(NOW + 100, 10) == 1
        assert await stores.sessions.describe(session.id) is None


class TestEnd:
    async def test_live_session_has_none(self, stores):
        await stores.log.append([a_draft(SUBJECT, "alice"), a_draft(CLIENT, "web"), a_draft(EVERYTHING)])
        session = await created(stores)
        details = await described(stores, session)
        assert details.end() is None
        assert {floor.sequence for floor in details.floors} == {1, 2, 3}

    @pytest.mark.parametrize(("target", "value"), [(SUBJECT, "alice"), (CLIENT, "web"), (EVERYTHING, "")])
    async def test_floor_gives_time_reason_and_target(self, stores, target, value):
        session = await created(stores)
        other = await created(stores, subject="bob", client_id="app")
        await stores.log.append([a_draft(target, value, revoke_time=NOW + 7, reason=COMPROMISED)])
        details = await described(stores, session)
        assert details.floors == (Floor(target, 1, NOW + 7, COMPROMISED),)
        assert details.end() == SessionEnd(target, NOW + 7, COMPROMISED)
        assert ((await described(stores, other)).end() is not None) == (target is EVERYTHING)

    async def test_own_revocation_gives_time_reason_and_target(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SESSION, session.id, revoke_time=NOW + 5, reason=LOGOUT)])
        assert (await described(stores, session)).end() == SessionEnd(SESSION, NOW + 5, LOGOUT)

    @pytest.mark.parametrize("first", [SESSION, SUBJECT, CLIENT, EVERYTHING])
    async def test_earliest_of_several_revocations_ended_it(self, stores, first):
        session = await created(stores)
        values = {SESSION: session.id, SUBJECT: "alice", CLIENT: "web", EVERYTHING: ""}
        order = [first, *(target for target in values if target is not first)]
        for place, target in enumerate(order):
            await stores.log.append(
                [a_draft(target, values[target], revoke_time=NOW + place, reason=RevocationReason(place + 1))]
            )
        assert (await described(stores, session)).end() == SessionEnd(first, NOW, LOGOUT)

    async def test_floors_are_ordered_by_sequence_and_not_by_the_clocks_of_nodes(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(CLIENT, "web", revoke_time=NOW + 9)])
        await stores.log.append([a_draft(SUBJECT, "alice", revoke_time=NOW + 8)])
        assert (await described(stores, session)).end() == SessionEnd(
            CLIENT, NOW + 9, RevocationReason.UNSPECIFIED
        )

    async def test_own_revocation_counts_before_a_floor_of_the_same_append(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SESSION, session.id, reason=LOGOUT), a_draft(SUBJECT, "alice")])
        assert (await described(stores, session)).end() == SessionEnd(SESSION, NOW + 20, LOGOUT)

    async def test_floor_from_before_the_session_does_not_count(self, stores):
        await stores.log.append([a_draft(SUBJECT, "alice", reason=LOGOUT)])
        session = await created(stores)
        await stores.log.append([a_draft(CLIENT, "web", revoke_time=NOW + 30, reason=COMPROMISED)])
        assert (await described(stores, session)).end() == SessionEnd(CLIENT, NOW + 30, COMPROMISED)

    async def test_reason_stays_after_the_entry_of_the_log_is_gone(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SUBJECT, "alice", reason=COMPROMISED)])
        assert await stores.log.compact(NOW + 1e6, 100) == 1
        assert (await described(stores, session)).end() == SessionEnd(SUBJECT, NOW + 20, COMPROMISED)

    async def test_renewed_log_ends_it_through_everything(self, stores):
        session = await created(stores)
        head = await stores.log.head()
        draft = a_draft(EVERYTHING, reason=RevocationReason.ADMINISTRATIVE)
        await stores.log.renew(draft, replaces=head.epoch, epoch="another-log", sequence=1000)
        assert (await described(stores, session)).end() == SessionEnd(
            EVERYTHING, NOW + 20, RevocationReason.ADMINISTRATIVE
        )


async def test_floor_raised_by_an_older_node_has_no_reason(sql_backend):
    """A node before revision 0008 changes the sequence and the time of a floor, and leaves its reason."""
    async with sql_backend.open() as opened:
        stores: Any = opened
        session = await created(stores)
        await stores.log.append([a_draft(SUBJECT, "alice", reason=COMPROMISED)])
        async with stores._database.engine.begin() as connection:
            await connection.execute(
                sa.update(revocation_floors).values(sequence=2, raise_time=round(NOW * 1_000_000) + 1)
            )
        end = (await described(stores, session)).end()
        assert end == SessionEnd(SUBJECT, NOW + 1e-6, RevocationReason.UNSPECIFIED)
        await stores.log.append([a_draft(SUBJECT, "alice", reason=LOGOUT)])
        assert (await described(stores, session)).floors == (Floor(SUBJECT, 2, NOW + 20, LOGOUT),)

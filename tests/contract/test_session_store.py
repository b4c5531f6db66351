"""`SessionStore` over every backend."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contract.builders import NOW, a_draft, a_retry, a_rotation, a_session, a_use, an_amendment, digest
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionFilter, SessionPosition
from token_service.tokens.claims import AuthContext, Confirmation
from token_service.tokens.revocation import RevocationReason, RevocationTarget

JKT, X5T = Confirmation(jkt="j" * 43), Confirmation(x5t_s256="x" * 43)


async def created(stores, **changes):
    session, _ = await stores.sessions.create(a_session(**changes), None)
    return session


async def listed(stores, by=SessionFilter.SUBJECT, value="alice", *, live_at=None, limit=10, after=None):
    """Return the rows of a page."""
    page = await stores.sessions.list(by, value, live_at=live_at, limit=limit, after=after)
    return [details.session for details in page]


class TestCreate:
    async def test_returns_the_row_as_get_does(self, stores):
        session = a_session(
            subject="älïce 🙂",
            device_id="phone",
            scopes=("read", "write"),
            audience=("https://api",),
            auth_context=AuthContext("urn:acr", ("pwd", "otp"), 1_800_000_000),
            confirmation=Confirmation(jkt="thumbprint"),
            custom_claims={"team": "blue", "n": [1, 2.5, None, {"x": True}]},
            access_token_ttl=600,
            with_id_token=True,
            key_version=3,
            session_hash=digest("session"),
        )
        row, was_created = await stores.sessions.create(session, digest("request"))
        assert was_created
        assert row == session
        assert await stores.sessions.get(session.id) == session

    async def test_keeps_empty_fields_empty(self, stores):
        session = a_session(refresh_hash=None)
        row, _ = await stores.sessions.create(session, None)
        assert row == session
        assert row.confirmation == Confirmation()
        assert row.auth_context is None

    async def test_keeps_times_to_the_microsecond(self, stores):
        row = await created(stores, create_time=1_800_000_000.1234567)
        assert row.create_time == 1_800_000_000.123457
        assert (await stores.sessions.get(row.id)).create_time == 1_800_000_000.123457

    async def test_takes_the_head_of_the_log_as_its_revision(self, stores):
        head, _ = await stores.log.append([a_draft(RevocationTarget.TOKEN_ID, "t")])
        row = await created(stores, revision=77)
        assert row.revision == row.head == head.sequence == 1

    async def test_a_repeated_request_gives_the_same_row(self, stores):
        first, _ = await stores.sessions.create(a_session(), digest("request"))
        again, was_created = await stores.sessions.create(a_session(subject="bob"), digest("request"))
        assert not was_created
        assert again == first

    async def test_the_same_request_of_another_client_makes_another_row(self, stores):
        await stores.sessions.create(a_session(), digest("request"))
        _, was_created = await stores.sessions.create(a_session(client_id="app"), digest("request"))
        assert was_created

    async def test_without_a_request_every_call_makes_a_row(self, stores):
        rows = [await stores.sessions.create(a_session(), None) for _ in range(2)]
        assert all(was_created for _, was_created in rows)

    async def test_concurrent_calls_of_one_request_insert_one_row(self, pair):
        for round_ in range(5):
            requests = [digest(f"{round_} {n}") for n in range(4)]
            answers = await asyncio.gather(
                *(pair[n % 2].sessions.create(a_session(), requests[n // 2 % 4]) for n in range(64))
            )
            for position, request in enumerate(requests):
                mine = [answer for n, answer in enumerate(answers) if n // 2 % 4 == position]
                assert sum(was_created for _, was_created in mine) == 1, request
                assert len({row.id for row, _ in mine}) == 1

    async def test_concurrent_calls_return_their_own_rows(self, pair):
        sessions = [a_session(subject=f"user {n}") for n in range(200)]
        answers = await asyncio.gather(
            *(pair[n % 2].sessions.create(session, None) for n, session in enumerate(sessions))
        )
        assert [row for row, _ in answers] == sessions


class TestRotate:
    async def test_sets_generation_hashes_key_version_and_times(self, stores):
        session = await created(stores, key_version=1)
        row = await stores.sessions.rotate(a_rotation(session.id, key_version=2))
        assert row == replace(
            session,
            generation=1,
            refresh_hash=digest("1"),
            previous_hash=digest("0"),
            key_version=2,
            rotate_time=NOW + 10,
            last_use_time=NOW + 10,
            idle_expire_time=NOW + 3610,
        )
        assert await stores.sessions.get(session.id) == row

    async def test_increments_the_generation_each_time(self, stores):
        session = await created(stores)
        for generation in range(5):
            row = await stores.sessions.rotate(a_rotation(session.id, generation))
            assert row.generation == generation + 1

    async def test_a_token_rotates_once(self, stores):
        session = await created(stores)
        assert await stores.sessions.rotate(a_rotation(session.id)) is not None
        assert await stores.sessions.rotate(a_rotation(session.id)) is None

    async def test_resets_the_retries(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id))
        assert (await stores.sessions.retry(a_retry(session.id))).retries == 1
        assert (await stores.sessions.rotate(a_rotation(session.id, 1))).retries == 0

    async def test_cuts_the_idle_expiry_to_the_absolute_one(self, stores):
        session = await created(stores)
        row = await stores.sessions.rotate(a_rotation(session.id, idle_expire_time=NOW + 1_000_000))
        assert row.idle_expire_time == session.absolute_expire_time

    @pytest.mark.parametrize(
        "changes",
        [
            {"client_id": "other"},
            {"generation": 1},
            {"generation": -1},
            {"current_hash": digest("x")},
            {"device_id": "tablet"},
            {"device_id": ""},
            {"session_id": UUID(int=7)},
        ],
        ids=str,
    )
    async def test_needs_every_condition(self, stores, changes):
        session = await created(stores, device_id="phone")
        assert (
            await stores.sessions.rotate(a_rotation(session.id, **{"device_id": "phone", **changes})) is None
        )
        assert await stores.sessions.get(session.id) == session
        assert await stores.sessions.rotate(a_rotation(session.id, device_id="phone")) is not None

    @pytest.mark.parametrize("bound", [JKT, X5T], ids=str)
    async def test_needs_the_key_of_a_bound_session(self, stores, bound):
        session = await created(stores, confirmation=bound)
        other = replace(bound, **{"jkt": "y" * 43} if bound.jkt else {"x5t_s256": "y" * 43})
        for proved in ((), (other,), (X5T if bound == JKT else JKT, other)):
            assert await stores.sessions.rotate(a_rotation(session.id, proved=proved)) is None
        assert await stores.sessions.get(session.id) == session
        rotated = await stores.sessions.rotate(a_rotation(session.id, proved=(JKT, X5T)))
        assert (rotated.generation, rotated.confirmation) == (1, bound)
        for proved in ((), (other,)):
            assert await stores.sessions.retry(a_retry(session.id, proved=proved)) is None
        assert await stores.sessions.get(session.id) == rotated
        assert (await stores.sessions.retry(a_retry(session.id, proved=(JKT, X5T)))).retries == 1

    async def test_a_session_without_a_key_takes_any(self, stores):
        session = await created(stores)
        assert await stores.sessions.rotate(a_rotation(session.id, proved=(JKT,))) is not None
        assert await stores.sessions.retry(a_retry(session.id, proved=(X5T,))) is not None

    async def test_a_session_without_a_device_takes_any(self, stores):
        session = await created(stores)
        assert await stores.sessions.rotate(a_rotation(session.id, device_id="phone")) is not None

    async def test_a_session_without_a_refresh_token_has_nothing_to_rotate(self, stores):
        session = await created(stores, refresh_hash=None)
        assert await stores.sessions.rotate(a_rotation(session.id)) is None

    @pytest.mark.parametrize("expiry", ["idle_expire_time", "absolute_expire_time"])
    async def test_an_expiry_counts_at_its_exact_time(self, stores, expiry):
        session = await created(stores, **{expiry: NOW + 10})
        assert await stores.sessions.rotate(a_rotation(session.id, now=NOW + 10)) is None
        assert await stores.sessions.rotate(a_rotation(session.id, now=NOW + 9.999999)) is not None

    async def test_refuses_a_revoked_session(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(RevocationTarget.SESSION, session.id)])
        assert await stores.sessions.rotate(a_rotation(session.id)) is None

    @pytest.mark.parametrize(
        ("target", "value"),
        [
            (RevocationTarget.SUBJECT, "alice"),
            (RevocationTarget.CLIENT, "web"),
            (RevocationTarget.EVERYTHING, ""),
        ],
    )
    async def test_refuses_a_session_below_a_floor(self, stores, target, value):
        session = await created(stores)
        other = await created(stores, subject="bob", client_id="app")
        await stores.log.append([a_draft(target, value)])
        assert await stores.sessions.rotate(a_rotation(session.id)) is None
        seen = await stores.sessions.get(session.id)
        assert (seen.floor, seen.revision, seen.head) == (1, 0, 1)
        assert seen.state(NOW) is SessionState.REVOKED
        hit = target is RevocationTarget.EVERYTHING
        assert (await stores.sessions.rotate(a_rotation(other.id, client_id="app")) is None) == hit

    async def test_accepts_a_session_at_its_floor(self, stores):
        await stores.log.append([a_draft(RevocationTarget.SUBJECT, "alice")])
        session = await created(stores)
        row = await stores.sessions.rotate(a_rotation(session.id))
        assert (row.floor, row.revision, row.head) == (1, 1, 1)

    async def test_ignores_a_floor_of_another_kind_with_the_same_name(self, stores):
        session = await created(stores, subject="web", client_id="alice")
        await stores.log.append(
            [
                a_draft(RevocationTarget.SUBJECT, "alice"),
                a_draft(RevocationTarget.CLIENT, "web"),
            ]
        )
        row = await stores.sessions.rotate(a_rotation(session.id, client_id="alice"))
        assert (row.floor, row.head) == (0, 2)

    async def test_one_of_64_concurrent_calls_over_two_nodes_wins(self, pair):
        session = await created(pair[0])
        for generation in range(20):
            answers = await asyncio.gather(
                *(pair[n % 2].sessions.rotate(a_rotation(session.id, generation)) for n in range(64))
            )
            winners = [answer for answer in answers if answer is not None]
            assert [winner.generation for winner in winners] == [generation + 1]

    async def test_different_successors_of_one_token_never_both_win(self, pair):
        session = await created(pair[0])
        for generation in range(10):
            successors = [digest(f"{generation + 1} {n}") for n in range(32)]
            answers = await asyncio.gather(
                *(
                    pair[n % 2].sessions.rotate(
                        a_rotation(
                            session.id, generation, current_hash=session.refresh_hash, next_hash=successor
                        )
                    )
                    for n, successor in enumerate(successors)
                )
            )
            (session,) = [answer for answer in answers if answer is not None]
            assert session.refresh_hash == successors[answers.index(session)]
            assert await pair[0].sessions.get(session.id) == session

    async def test_only_the_call_that_rotated_gets_the_row(self, stores):
        """Calls with the same token but the wrong client or device share a batch with the right call."""
        session = await created(stores, device_id="phone")
        right = a_rotation(session.id, device_id="phone")
        wrong = [replace(right, client_id="thief"), replace(right, device_id="tablet")] * 8
        answers = await asyncio.gather(*(stores.sessions.rotate(c) for c in [*wrong, right, *wrong]))
        assert [n for n, answer in enumerate(answers) if answer is not None] == [len(wrong)]

    async def test_concurrent_calls_return_their_own_rows(self, pair):
        sessions = [await created(pair[0]) for _ in range(100)]
        answers = await asyncio.gather(
            *(pair[n % 2].sessions.rotate(a_rotation(session.id)) for n, session in enumerate(sessions))
        )
        assert [answer.id for answer in answers] == [session.id for session in sessions]

    async def test_overlapping_batches_in_opposite_order_do_not_deadlock(self, pair):
        sessions = [await created(pair[0]) for _ in range(30)]
        for generation in range(5):
            answers = await asyncio.gather(
                *(pair[0].sessions.rotate(a_rotation(s.id, generation)) for s in sessions),
                *(pair[1].sessions.rotate(a_rotation(s.id, generation)) for s in reversed(sessions)),
            )
            assert sum(answer is not None for answer in answers) == len(sessions)


class TestRetry:
    async def test_counts_retries(self, stores):
        session = await created(stores)
        rotated = await stores.sessions.rotate(a_rotation(session.id))
        assert await stores.sessions.retry(a_retry(session.id)) == replace(rotated, retries=1)
        assert (await stores.sessions.retry(a_retry(session.id))).retries == 2

    @pytest.mark.parametrize(
        "changes",
        [
            {"client_id": "other"},
            {"device_id": "tablet"},
            {"generation": 1},
            {"previous_hash": digest("1")},
            {"rotated_after": NOW + 10},
            {"max_retries": 0},
            {"now": NOW + 3610},
            {"session_id": UUID(int=7)},
        ],
        ids=str,
    )
    async def test_needs_every_condition(self, stores, changes):
        session = await created(stores, device_id="phone")
        rotated = await stores.sessions.rotate(a_rotation(session.id, device_id="phone"))
        assert await stores.sessions.retry(a_retry(session.id, **{"device_id": "phone", **changes})) is None
        assert await stores.sessions.get(session.id) == rotated

    async def test_refuses_once_the_successor_was_used(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id))
        await stores.sessions.rotate(a_rotation(session.id, 1))
        assert await stores.sessions.retry(a_retry(session.id)) is None

    async def test_refuses_before_a_rotation(self, stores):
        session = await created(stores)
        assert await stores.sessions.retry(a_retry(session.id)) is None

    async def test_refuses_a_revoked_session(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id))
        await stores.log.append([a_draft(RevocationTarget.CLIENT, "web")])
        assert await stores.sessions.retry(a_retry(session.id)) is None

    async def test_concurrent_calls_never_exceed_the_cap(self, pair):
        session = await created(pair[0])
        await pair[0].sessions.rotate(a_rotation(session.id))
        answers = await asyncio.gather(
            *(pair[n % 2].sessions.retry(a_retry(session.id, max_retries=7)) for n in range(32))
        )
        assert sorted(answer.retries for answer in answers if answer is not None) == [1, 2, 3, 4, 5, 6, 7]


class TestAmend:
    async def test_sets_the_given_fields_and_keeps_the_rest(self, stores):
        session = await created(
            stores,
            scopes=("a", "b"),
            custom_claims={"team": "blue"},
            auth_context=AuthContext("1", ("pwd",), 5),
        )
        row = await stores.sessions.amend(an_amendment(session, scopes=("b",)))
        assert row == replace(session, scopes=("b",))
        row = await stores.sessions.amend(an_amendment(row, custom_claims={"team": "red"}))
        assert row == replace(session, scopes=("b",), custom_claims={"team": "red"})
        raised = AuthContext("2", ("pwd", "otp"), 6)
        row = await stores.sessions.amend(an_amendment(row, auth_context=raised, with_auth_context=True))
        assert row.auth_context == raised
        row = await stores.sessions.amend(
            an_amendment(row, scopes=(), custom_claims={}, with_auth_context=True)
        )
        assert row == replace(session, scopes=(), custom_claims={}, auth_context=None)
        assert await stores.sessions.get(session.id) == row

    async def test_the_next_rotation_returns_the_new_values(self, stores):
        session = await created(stores, scopes=("a", "b"))
        await stores.sessions.amend(an_amendment(session, scopes=("a",), custom_claims={"x": 1}))
        rotated = await stores.sessions.rotate(a_rotation(session.id))
        assert (rotated.scopes, rotated.custom_claims) == (("a",), {"x": 1})

    async def test_refuses_a_row_whose_scopes_changed(self, stores):
        session = await created(stores, scopes=("a", "b"))
        assert await stores.sessions.amend(an_amendment(session, scopes=("a",))) is not None
        assert await stores.sessions.amend(an_amendment(session, scopes=("b",))) is None
        assert (await stores.sessions.get(session.id)).scopes == ("a",)

    async def test_of_concurrent_narrowings_one_wins(self, pair):
        session = await created(pair[0], scopes=("a", "b"))
        answers = await asyncio.gather(
            *(
                pair[n % 2].sessions.amend(an_amendment(session, scopes=("a",) if n % 3 else ("b",)))
                for n in range(12)
            )
        )
        (winner,) = [answer for answer in answers if answer is not None]
        assert (await pair[0].sessions.get(session.id)).scopes == winner.scopes

    async def test_refuses_idle_revoked_and_unknown_sessions(self, stores):
        idle = await created(stores, idle_expire_time=NOW + 10)
        revoked = await created(stores)
        await stores.log.append([a_draft(RevocationTarget.SESSION, revoked.id)])
        for session in (idle, revoked, a_session()):
            assert await stores.sessions.amend(an_amendment(session)) is None


class TestUse:
    async def test_moves_the_idle_expiry(self, stores):
        session = await created(stores)
        row = await stores.sessions.use(a_use(session.id))
        assert row == replace(session, last_use_time=NOW + 10, idle_expire_time=NOW + 3610)
        assert await stores.sessions.get(session.id) == row

    async def test_cuts_to_the_absolute_expiry(self, stores):
        session = await created(stores)
        row = await stores.sessions.use(a_use(session.id, idle_expire_time=NOW + 1_000_000))
        assert row.idle_expire_time == session.absolute_expire_time

    async def test_checks_the_hash_if_given(self, stores):
        session = await created(stores)
        assert await stores.sessions.use(a_use(session.id, refresh_hash=digest("x"))) is None
        assert await stores.sessions.use(a_use(session.id, refresh_hash=digest("0"))) is not None

    async def test_refuses_idle_revoked_and_unknown_sessions(self, stores):
        idle = await created(stores, idle_expire_time=NOW + 10)
        revoked = await created(stores)
        await stores.log.append([a_draft(RevocationTarget.SESSION, revoked.id)])
        for session_id in (idle.id, revoked.id, uuid4()):
            assert await stores.sessions.use(a_use(session_id)) is None

    async def test_succeeds_during_rotations(self, pair):
        session = await created(pair[0])
        for generation in range(10):
            *used, rotated = await asyncio.gather(
                *(pair[n % 2].sessions.use(a_use(session.id)) for n in range(8)),
                pair[1].sessions.rotate(a_rotation(session.id, generation)),
            )
            assert rotated.generation == generation + 1
            assert all(used)


class TestList:
    async def test_newest_first_with_ids_deciding_ties(self, stores):
        rows = [await created(stores, create_time=NOW + n // 3) for n in range(12)]
        rows.sort(key=lambda row: (row.create_time, row.id), reverse=True)
        assert await listed(stores, limit=100) == rows

    async def test_pages_contain_every_row_once(self, stores):
        rows = [await created(stores, create_time=NOW + n // 3) for n in range(11)]
        pages, after = [], None
        while True:
            page = await listed(stores, limit=3, after=after)
            if not page:
                break
            pages.extend(page)
            after = SessionPosition(page[-1].create_time, page[-1].id)
        assert sorted(row.id for row in pages) == sorted(row.id for row in rows)
        assert len(pages) == 11

    async def test_position_counts_rows_of_any_state_in_the_order_of_the_list(self, stores):
        rows = [await created(stores, create_time=NOW + n // 3) for n in range(9)]
        await created(stores, subject="bob", create_time=NOW + 9)
        rows.sort(key=lambda row: (row.create_time, row.id), reverse=True)
        await stores.log.append([a_draft(RevocationTarget.SESSION, row.id) for row in rows[:5]])
        places = [SessionPosition(row.create_time, row.id) for row in rows]
        position = stores.sessions.position
        for after, count, expected in (
            (None, 1, 0),
            (None, 5, 4),
            (None, 9, 8),
            (places[1], 2, 3),
            (places[4], 4, 8),
        ):
            found = await position(SessionFilter.SUBJECT, "alice", after=after, count=count)
            assert found == places[expected]
        assert await position(SessionFilter.SUBJECT, "alice", after=None, count=10) is None
        assert await position(SessionFilter.SUBJECT, "alice", after=places[4], count=5) is None
        assert await position(SessionFilter.DEVICE, "", after=None, count=1) is None

    async def test_until_ends_the_list_with_its_row(self, stores):
        rows = [await created(stores, create_time=NOW + n // 3) for n in range(9)]
        rows.sort(key=lambda row: (row.create_time, row.id), reverse=True)
        await stores.log.append([a_draft(RevocationTarget.SESSION, rows[4].id)])
        places = [SessionPosition(row.create_time, row.id) for row in rows]

        async def until(place, **options):
            page = await stores.sessions.list(
                SessionFilter.SUBJECT, "alice", limit=10, until=place, **options
            )
            return [details.session.id for details in page]

        ids = [row.id for row in rows]
        assert await until(places[6], live_at=None, after=places[1]) == ids[2:7]
        assert await until(places[4], live_at=NOW + 30, after=places[1]) == ids[2:4]

    @pytest.mark.parametrize(
        ("by", "value"),
        [(SessionFilter.SUBJECT, "bob"), (SessionFilter.CLIENT, "app"), (SessionFilter.DEVICE, "phone")],
    )
    async def test_filters_by_each_column(self, stores, by, value):
        await created(stores)
        row = await created(stores, **{by.value: value})
        assert await listed(stores, by, value) == [row]
        assert await listed(stores, by, "nobody") == []

    async def test_an_empty_device_matches_no_session(self, stores):
        await created(stores)
        assert await listed(stores, SessionFilter.DEVICE, "") == []

    async def test_live_at_omits_expired_and_revoked_sessions(self, stores):
        await created(stores, idle_expire_time=NOW + 10)
        await created(stores, absolute_expire_time=NOW + 10)
        revoked = await created(stores)
        floored = await created(stores, client_id="app")
        await stores.log.append(
            [
                a_draft(RevocationTarget.SESSION, revoked.id),
                a_draft(RevocationTarget.CLIENT, "app"),
            ]
        )
        live = await created(stores)
        assert await listed(stores, live_at=NOW + 10) == [live]
        everything = await listed(stores)
        assert len(everything) == 5
        assert {row.floor for row in everything if row.id == floored.id} == {2}


class TestPurge:
    async def test_deletes_only_sessions_that_ended_before_the_time(self, stores):
        gone = [
            await created(stores, idle_expire_time=NOW + 99),
            await created(stores, absolute_expire_time=NOW + 99),
            await created(stores),
        ]
        await stores.log.append([a_draft(RevocationTarget.SESSION, gone[2].id, revoke_time=NOW + 99)])
        kept = [
            await created(stores, idle_expire_time=NOW + 100),
            await created(stores, absolute_expire_time=NOW + 100),
            await created(stores),
            await created(stores),
        ]
        await stores.log.append([a_draft(RevocationTarget.SESSION, kept[3].id, revoke_time=NOW + 100)])
        expired: Counter[str] = Counter()
        assert await stores.sessions.purge(NOW + 100, 100, expired) == 3
        assert expired == {"web": 2}  # the third was revoked
        assert [await stores.sessions.get(row.id) for row in gone] == [None] * 3
        assert all([await stores.sessions.get(row.id) for row in kept])
        assert await stores.sessions.purge(NOW + 100, 100) == 0

    async def test_deletes_at_most_a_batch_per_call(self, stores):
        for _ in range(7):
            await created(stores, idle_expire_time=NOW + 1)
        assert [await stores.sessions.purge(NOW + 100, 3) for _ in range(4)] == [3, 3, 1, 0]

    async def test_a_session_in_use_is_deferred(self, stores):
        """Any number of deferred sessions may come before the one that ended."""
        used = [await created(stores, idle_expire_time=NOW + 20 + n) for n in range(10)]
        for session in used:
            await stores.sessions.rotate(a_rotation(session.id, idle_expire_time=NOW + 200))
        ended = await created(stores, idle_expire_time=NOW + 50)
        assert await stores.sessions.purge(NOW + 100, 2) == 1
        assert await stores.sessions.get(ended.id) is None
        assert await stores.sessions.purge(NOW + 100, 2) == 0
        assert await stores.sessions.purge(NOW + 200, 100) == 0
        assert await stores.sessions.purge(NOW + 200.000001, 100) == 10

    async def test_a_shortened_idle_timeout_counts(self, stores):
        session = await created(stores)
        await stores.sessions.rotate(a_rotation(session.id, idle_expire_time=NOW + 20))
        assert await stores.sessions.purge(NOW + 21, 100) == 1

    async def test_a_purged_request_may_be_made_again(self, stores):
        await stores.sessions.create(a_session(idle_expire_time=NOW + 1), digest("request"))
        await stores.sessions.purge(NOW + 100, 100)
        _, was_created = await stores.sessions.create(a_session(), digest("request"))
        assert was_created

    async def test_spares_sessions_that_rotate_concurrently(self, pair):
        live = [await created(pair[0], idle_expire_time=NOW + 50) for _ in range(20)]
        ended = [await created(pair[0], idle_expire_time=NOW + 20) for _ in range(20)]
        *rotated, one, two = await asyncio.gather(
            *(
                pair[0].sessions.rotate(a_rotation(s.id, now=NOW + 30, idle_expire_time=NOW + 90))
                for s in live
            ),
            pair[0].sessions.purge(NOW + 40, 100),
            pair[1].sessions.purge(NOW + 40, 100),
        )
        assert all(rotated)
        assert one + two == len(ended)


class TestCancellation:
    async def test_of_some_callers_does_not_affect_the_others(self, stores):
        sessions = [await created(stores) for _ in range(40)]
        tasks = [asyncio.create_task(stores.sessions.rotate(a_rotation(s.id))) for s in sessions]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer.generation == 1 for answer in answers[1::2])
        for session in sessions[::2]:
            await self.goes_on(stores, session)

    async def test_at_any_moment_leaves_a_usable_session(self, stores):
        for turns in range(8):
            session = await created(stores)
            task = asyncio.create_task(stores.sessions.rotate(a_rotation(session.id)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await self.goes_on(stores, session)

    @staticmethod
    async def goes_on(stores, session):
        """Rotate once more, whether the canceled rotation happened, did not happen or still runs."""
        row = await stores.sessions.rotate(a_rotation(session.id))
        row = row or await stores.sessions.rotate(a_rotation(session.id, 1))
        assert row is not None


async def test_revoke_reason_and_time_are_kept(stores):
    session = await created(stores)
    await stores.log.append(
        [a_draft(RevocationTarget.SESSION, session.id, reason=RevocationReason.LOGOUT, revoke_time=NOW + 5)]
    )
    row = await stores.sessions.get(session.id)
    assert (row.revoke_time, row.revoke_reason) == (NOW + 5, RevocationReason.LOGOUT)

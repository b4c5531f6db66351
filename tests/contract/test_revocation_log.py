"""`RevocationLog` over every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.contract.builders import NOW, a_draft, a_rotation, a_session, a_signing_key
from tests.contract.conftest import BACKENDS
from tests.support.deadline import eventually
from token_service.core.keys.store import SigningKeyState
from token_service.core.sessions.session import SessionState
from token_service.tokens.revocation import Cursor, Revocation, RevocationReason, RevocationTarget

TOKEN = RevocationTarget.TOKEN_ID
SESSION = RevocationTarget.SESSION
SUBJECT = RevocationTarget.SUBJECT
CLIENT = RevocationTarget.CLIENT
KEY = RevocationTarget.KEY
EVERYTHING = RevocationTarget.EVERYTHING


async def created(stores, **changes):
    session, _ = await stores.sessions.create(a_session(**changes), None)
    return session


class TestExpiry:
    @pytest.mark.parametrize("target", [TOKEN, SESSION, SUBJECT, EVERYTHING])
    async def test_of_a_draft_by_a_slow_clock_counts_from_the_database_clock(self, stores, target):
        session = await created(stores)
        before = (await stores.log.head()).read_time
        value = {SESSION: session.id, EVERYTHING: ""}.get(target, "one")
        draft = a_draft(target, value, revoke_time=before - 3600, expire_time=before - 60, remember=3540.0)
        _, (entry,) = await stores.log.append([draft])
        after = (await stores.log.head()).read_time
        assert before + 3540 <= entry.expire_time + 1e-3
        assert entry.expire_time <= after + 3540 + 1e-3
        assert entry.revoke_time == pytest.approx(before - 3600, abs=1e-5)
        assert await stores.log.read(0, 10) == [entry]

    async def test_of_a_draft_by_a_fast_clock_is_the_one_of_the_draft(self, stores):
        ahead = round((await stores.log.head()).read_time) + 3600.0
        draft = a_draft(TOKEN, "one", revoke_time=ahead, expire_time=ahead + 100, remember=100.0)
        _, (entry,) = await stores.log.append([draft])
        assert entry.expire_time == ahead + 100

    async def test_of_a_draft_with_an_explicit_expiry_is_kept(self, stores):
        _, (entry,) = await stores.log.append([a_draft(TOKEN, "one", expire_time=1000.0)])
        assert entry.expire_time == 1000.0

    async def test_of_a_renewal_counts_from_the_database_clock(self, stores):
        head = await stores.log.head()
        draft = a_draft(EVERYTHING, "", revoke_time=1000.0, expire_time=1100.0, remember=100.0)
        await stores.log.renew(draft, replaces=head.epoch, epoch="e" * 16, sequence=1000)
        (entry,) = await stores.log.read(0, 10)
        assert head.read_time + 100 <= entry.expire_time + 1e-3


class TestHead:
    async def test_of_an_empty_log(self, stores):
        head = await stores.log.head()
        assert (head.sequence, head.compacted, head.key_revision) == (0, 0, 0)

    async def test_the_epoch_fits_into_a_cursor_and_stays(self, pair):
        one, other = await pair[0].log.head(), await pair[1].log.head()
        assert one.epoch == other.epoch
        assert Cursor.parse(str(Cursor(one.epoch, 0))).epoch == one.epoch
        assert len(one.epoch) == 16

    async def test_includes_every_append_that_has_returned(self, pair):
        for n in range(1, 20):
            head, _ = await pair[n % 2].log.append([a_draft(TOKEN, n)])
            answers = await asyncio.gather(*(stores.log.head() for stores in pair * 8))
            assert all(answer == head for answer in answers)

    async def test_has_the_time_of_the_newest_entry(self, stores):
        assert (await stores.log.head()).newest is None
        head, _ = await stores.log.append([a_draft(TOKEN, 1), a_draft(TOKEN, 2, revoke_time=NOW + 21)])
        assert (head.follows, head.newest) == (None, NOW + 21)
        answers = await asyncio.gather(
            *(stores.log.append([a_draft(TOKEN, n, revoke_time=NOW + n)]) for n in range(30, 60)),
            stores.log.append([a_draft(SESSION, uuid4())]),
        )
        times = {2: NOW + 21} | {e.sequence: e.revoke_time for _, entries in answers for e in entries}
        for head, entries in answers:
            assert head.newest == times[head.sequence]
            if entries:
                assert head.follows == times[entries[0].sequence - 1]
        head = await stores.log.head()
        assert head.newest == times[32]
        await stores.log.compact(NOW + 9000, 100)
        compacted = await stores.log.head()
        assert (compacted.newest, compacted.compacted) == (head.newest, 32)


class TestAppend:
    async def test_returns_the_head_and_the_entries(self, stores):
        draft = a_draft(
            TOKEN,
            "jti",
            reason=RevocationReason.LOGOUT,
            comment="bye",
            token_expire_time=1_800_003_600,
            revoke_time=NOW + 0.0000004,
        )
        head, entries = await stores.log.append([draft])
        assert head == await stores.log.head()
        assert head.sequence == 1
        expected = Revocation(
            sequence=1,
            target=TOKEN,
            value="jti",
            revoke_time=NOW,
            expire_time=NOW + 3620,
            reason=RevocationReason.LOGOUT,
            token_expire_time=1_800_003_600,
        )
        assert list(entries) == [expected]
        assert list(await stores.log.read(0, 10)) == [expected]

    async def test_without_drafts_returns_the_head(self, stores):
        head, entries = await stores.log.append([])
        assert head == await stores.log.head()
        assert list(entries) == []

    async def test_the_same_token_twice_is_two_entries(self, stores):
        _, entries = await stores.log.append([a_draft(TOKEN, "t"), a_draft(TOKEN, "t")])
        assert [entry.sequence for entry in entries] == [1, 2]

    async def test_omits_unknown_and_revoked_sessions_without_a_gap(self, stores):
        session, other = await created(stores), await created(stores)
        await stores.log.append([a_draft(SESSION, other.id)])
        head, entries = await stores.log.append(
            [
                a_draft(SESSION, uuid4()),
                a_draft(SESSION, "not a session"),
                a_draft(TOKEN, "t"),
                a_draft(SESSION, other.id),
                a_draft(SESSION, session.id),
                a_draft(SESSION, session.id),
                a_draft(KEY, "unknown"),
                a_draft(SUBJECT, "alice"),
            ]
        )
        assert [(e.sequence, e.target, e.value) for e in entries] == [
            (2, TOKEN, "t"),
            (3, SESSION, str(session.id)),
            (4, SUBJECT, "alice"),
        ]
        assert head.sequence == 4
        assert [entry.sequence for entry in await stores.log.read(0, 10)] == [1, 2, 3, 4]

    async def test_the_same_session_draft_twice_is_one_entry(self, stores):
        session = await created(stores)
        draft = a_draft(SESSION, session.id)
        _, entries = await stores.log.append([draft, draft])
        assert len(entries) == 1

    async def test_only_omitted_drafts_change_nothing(self, stores):
        head, entries = await stores.log.append([a_draft(SESSION, uuid4()), a_draft(KEY, "unknown")])
        assert (head.sequence, list(entries)) == (0, [])

    async def test_a_revoked_session_keeps_its_first_reason(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SESSION, session.id, reason=RevocationReason.LOGOUT)])
        await stores.log.append([a_draft(SESSION, session.id, reason=RevocationReason.COMPROMISED)])
        assert (await stores.sessions.get(session.id)).revoke_reason is RevocationReason.LOGOUT

    async def test_raises_the_floors_of_subject_client_and_everything(self, stores):
        session = await created(stores)
        await stores.log.append(
            [
                a_draft(SUBJECT, "alice"),
                a_draft(CLIENT, "web"),
                a_draft(CLIENT, "app"),
                a_draft(SUBJECT, "alice"),
            ]
        )
        row = await stores.sessions.get(session.id)
        assert (row.floor, row.head) == (4, 4)
        await stores.log.append([a_draft(EVERYTHING)])
        assert (await stores.sessions.get(session.id)).floor == 5

    async def test_revokes_a_key_once(self, stores):
        await stores.keys.save(0, [a_signing_key("k1"), a_signing_key("k2")], [])
        head, entries = await stores.log.append([a_draft(KEY, "k1"), a_draft(KEY, "k1")])
        assert (head.key_revision, len(entries)) == (2, 1)
        assert await stores.log.head() == head
        keys = await stores.keys.load()
        assert keys.revision == 2
        assert [(key.state, key.revoke_time) for key in keys.signing_keys] == [
            (SigningKeyState.REVOKED, NOW + 20),
            (SigningKeyState.ACTIVE, None),
        ]
        head, entries = await stores.log.append([a_draft(KEY, "k1")])
        assert (head.key_revision, list(entries)) == (2, [])

    async def test_concurrent_revocations_of_a_session_make_one_entry(self, pair):
        for _ in range(10):
            session = await created(pair[0])
            answers = await asyncio.gather(
                *(stores.log.append([a_draft(SESSION, session.id)]) for stores in pair * 4)
            )
            assert sum(len(entries) for _, entries in answers) == 1

    async def test_the_returned_head_covers_the_returned_entries(self, pair):
        answers = await asyncio.gather(
            *(pair[n % 2].log.append([a_draft(TOKEN, n), a_draft(TOKEN, -n)]) for n in range(60))
        )
        assert all(head.sequence >= entries[-1].sequence for head, entries in answers)
        assert sorted(entry.sequence for _, entries in answers for entry in entries) == list(range(1, 121))
        assert all(entries[1].sequence == entries[0].sequence + 1 for _, entries in answers)

    async def test_cancelled_callers_leave_no_gap(self, stores):
        tasks = [asyncio.create_task(stores.log.append([a_draft(TOKEN, n)])) for n in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.wait(tasks)
        head, _ = await stores.log.append([a_draft(TOKEN, "last")])
        assert [e.sequence for e in await stores.log.read(0, 100)] == list(range(1, head.sequence + 1))


class TestRead:
    async def test_in_order_after_a_sequence(self, stores):
        await stores.log.append([a_draft(TOKEN, n) for n in range(1, 8)])
        assert [e.value for e in await stores.log.read(0, 3)] == ["1", "2", "3"]
        assert [e.value for e in await stores.log.read(3, 100)] == ["4", "5", "6", "7"]
        assert list(await stores.log.read(7, 100)) == []
        assert list(await stores.log.read(99, 100)) == []

    async def test_has_no_gap_while_two_nodes_append(self, pair):
        total = 2 * 30 * 4

        async def append(stores, name):
            for n in range(30):
                await asyncio.gather(
                    *(stores.log.append([a_draft(TOKEN, f"{name}{n}{m}")]) for m in range(4))
                )

        async def follow():
            seen = 0
            while seen < total:
                # Every entry up to the head can be read, and no entry appears below one already read.
                head = await pair[1].log.head()
                entries = await pair[0].log.read(seen, 1000)
                assert [entry.sequence for entry in entries] == list(range(seen + 1, seen + 1 + len(entries)))
                assert seen + len(entries) >= head.sequence
                seen += len(entries)
                await asyncio.sleep(0)

        async with asyncio.timeout(100):
            await asyncio.gather(append(pair[0], "a"), append(pair[1], "b"), follow())


class TestSessionsBesideRevocations:
    @pytest.mark.parametrize(("target", "value"), [(SUBJECT, "alice"), (CLIENT, "web"), (EVERYTHING, "")])
    async def test_a_session_created_concurrently_is_alive_or_dead_in_every_view(self, pair, target, value):
        for _ in range(10):
            before = await pair[0].log.head()
            *rows, (_, entries) = await asyncio.gather(
                *(pair[n % 2].sessions.create(a_session(), None) for n in range(16)),
                pair[0].log.append([a_draft(target, value)]),
            )
            (entry,) = entries
            for row, _ in rows:
                # The revision in the answer decides alive or dead, and the row keeps it.
                assert row.revision in {before.sequence, entry.sequence}
                seen = await pair[1].sessions.get(row.id)
                assert seen.floor == entry.sequence
                dead = row.revision < entry.sequence
                assert (seen.state(NOW + 5) is SessionState.REVOKED) == dead
                assert (await pair[1].sessions.rotate(a_rotation(row.id)) is None) == dead

    async def test_a_concurrent_rotation_gets_a_head_below_the_floor_or_nothing(self, pair):
        for _ in range(20):
            session = await created(pair[0])
            *rotated, (_, entries) = await asyncio.gather(
                *(pair[n % 2].sessions.rotate(a_rotation(session.id)) for n in range(4)),
                pair[1].log.append([a_draft(SUBJECT, "alice")]),
            )
            assert all(row.head < entries[0].sequence for row in rotated if row is not None)
            row = await pair[0].sessions.get(session.id)
            assert await pair[0].sessions.rotate(a_rotation(session.id, row.generation)) is None

    async def test_a_session_revoked_while_it_rotates_ends_revoked(self, pair):
        for _ in range(20):
            session = await created(pair[0])
            _, (_, entries) = await asyncio.gather(
                pair[0].sessions.rotate(a_rotation(session.id)),
                pair[1].log.append([a_draft(SESSION, session.id)]),
            )
            assert len(entries) == 1
            row = await pair[0].sessions.get(session.id)
            assert row.state(NOW + 15) is SessionState.REVOKED
            assert await pair[0].sessions.rotate(a_rotation(session.id, row.generation)) is None

    async def test_batches_that_revoke_and_rotate_the_same_sessions_do_not_deadlock(self, pair):
        sessions = [await created(pair[0]) for _ in range(30)]
        async with asyncio.timeout(100):
            answers = await asyncio.gather(
                *(pair[0].sessions.rotate(a_rotation(s.id)) for s in sessions),
                *(pair[1].log.append([a_draft(SESSION, s.id)]) for s in reversed(sessions)),
            )
        assert sum(len(entries) for _, entries in answers[30:]) == 30


class TestCompact:
    async def test_stops_at_the_first_live_entry(self, stores):
        lifetimes = [10, 20, 30, 10, 40]
        await stores.log.append(
            [a_draft(TOKEN, n, expire_time=NOW + lifetime) for n, lifetime in enumerate(lifetimes)]
        )
        assert await stores.log.compact(NOW + 25, 100) == 2
        head = await stores.log.head()
        assert (head.sequence, head.compacted) == (5, 2)
        assert [entry.sequence for entry in await stores.log.read(0, 100)] == [3, 4, 5]
        assert await stores.log.compact(NOW + 25, 100) == 0
        assert await stores.log.compact(NOW + 40, 100) == 2
        assert await stores.log.compact(NOW + 41, 100) == 1
        head = await stores.log.head()
        assert (head.sequence, head.compacted) == (5, 5)

    async def test_an_entry_expires_after_its_time_not_at_it(self, stores):
        await stores.log.append([a_draft(TOKEN, "t", expire_time=NOW + 10)])
        assert await stores.log.compact(NOW + 10, 100) == 0
        assert await stores.log.compact(NOW + 10.000001, 100) == 1

    async def test_deletes_at_most_a_batch_per_call(self, stores):
        await stores.log.append([a_draft(TOKEN, n, expire_time=NOW) for n in range(7)])
        assert [await stores.log.compact(NOW + 1, 3) for _ in range(4)] == [3, 3, 1, 0]

    async def test_keeps_the_sequence_of_the_next_entry(self, stores):
        await stores.log.append([a_draft(TOKEN, 1, expire_time=NOW)])
        await stores.log.compact(NOW + 1, 100)
        _, entries = await stores.log.append([a_draft(TOKEN, 2)])
        assert [entry.sequence for entry in entries] == [2]

    async def test_leaves_floors_alone(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SUBJECT, "alice", expire_time=NOW)])
        assert await stores.log.compact(NOW + 1, 100) == 1
        assert await stores.sessions.rotate(a_rotation(session.id)) is None

    async def test_keeps_readers_consistent_during_appends(self, pair):
        async def append():
            for n in range(60):
                await pair[0].log.append([a_draft(TOKEN, n, expire_time=NOW)])

        async def compact():
            while (await pair[1].log.head()).compacted < 60:
                await pair[1].log.compact(NOW + 1, 7)
                await asyncio.sleep(0)

        async def follow():
            seen = 0
            while seen < 60:
                entries = await pair[1].log.read(seen, 1000)
                head = await pair[0].log.head()
                sequences = [entry.sequence for entry in entries]
                if sequences:
                    # Only the front can be missing, and the head says so.
                    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
                    assert sequences[0] == seen + 1 or head.compacted >= sequences[0] - 1
                    seen = sequences[-1]
                else:
                    seen = max(seen, head.compacted)
                await asyncio.sleep(0)

        async with asyncio.timeout(100):
            await asyncio.gather(append(), compact(), follow())


class TestRenew:
    START = 5_000_000_000

    async def renew(self, stores, **changes):
        head = await stores.log.head()
        options = {"replaces": head.epoch, "epoch": "another-epoch", "sequence": self.START, **changes}
        return await stores.log.renew(a_draft(EVERYTHING, comment="restored"), **options)

    async def test_starts_at_a_new_sequence_with_an_entry_for_everything(self, pair):
        await pair[0].log.append([a_draft(TOKEN, 1), a_draft(SUBJECT, "alice")])
        before = await pair[0].log.head()
        head = await self.renew(pair[0])
        assert (head.epoch, head.sequence, head.compacted) == ("another-epoch", self.START, self.START - 1)
        assert head.newest == NOW + 20
        assert head.key_revision == before.key_revision
        assert await pair[1].log.head() == head
        for after in (0, 1, 2, self.START - 1):
            (entry,) = await pair[1].log.read(after, 10)
            assert (entry.sequence, entry.target, entry.value) == (self.START, EVERYTHING, "")
            assert (entry.revoke_time, entry.expire_time) == (NOW + 20, NOW + 3620)
        assert list(await pair[1].log.read(self.START, 10)) == []
        _, entries = await pair[1].log.append([a_draft(TOKEN, 2)])
        assert [entry.sequence for entry in entries] == [self.START + 1]

    async def test_with_keep_retains_every_entry_before_a_gap(self, pair):
        session = await created(pair[0])
        _, entries = await pair[0].log.append([a_draft(TOKEN, 1), a_draft(SUBJECT, "bob")])
        head = await pair[0].log.renew(
            a_draft(TOKEN, "none"),
            replaces=(await pair[0].log.head()).epoch,
            epoch="another-epoch",
            sequence=self.START,
            keep=True,
        )
        assert (head.epoch, head.sequence, head.compacted) == ("another-epoch", self.START, 0)
        assert await pair[1].log.head() == head
        kept = await pair[1].log.read(0, 10)
        assert list(kept[:2]) == list(entries)
        assert [entry.sequence for entry in kept] == [1, 2, self.START]
        found = await pair[1].sessions.get(session.id)
        assert (found.floor, found.head) == (0, self.START)
        _, (entry,) = await pair[1].log.append([a_draft(SUBJECT, "alice")])
        assert entry.sequence == self.START + 1
        assert (await pair[0].sessions.get(session.id)).floor == self.START + 1

    async def test_ends_sessions_created_before_it_and_not_after_it(self, stores):
        old = await created(stores)
        await self.renew(stores)
        new = await created(stores)
        assert await stores.sessions.rotate(a_rotation(old.id)) is None
        assert (await stores.sessions.get(old.id)).state(NOW) is SessionState.REVOKED
        assert new.revision == self.START
        assert await stores.sessions.rotate(a_rotation(new.id)) is not None

    async def test_revoked_keys_stay_revoked(self, stores):
        await stores.keys.save(0, [a_signing_key("k1"), a_signing_key("k2")], [])
        await stores.log.append([a_draft(TOKEN, 1), a_draft(KEY, "k1", comment="stolen"), a_draft(TOKEN, 2)])
        (was,) = [entry for entry in await stores.log.read(0, 10) if entry.target is KEY]
        head = await self.renew(stores)
        assert head.sequence == self.START + 1
        entries = await stores.log.read(0, 10)
        assert [entry.sequence for entry in entries] == [self.START, self.START + 1]
        assert entries[1] == replace(was, sequence=self.START + 1)
        keys = await stores.keys.load()
        assert [key.state for key in keys.signing_keys] == [SigningKeyState.REVOKED, SigningKeyState.ACTIVE]
        assert (await self.renew(stores, epoch="one-more-epoch", sequence=2 * self.START)).sequence == (
            2 * self.START + 1
        )

    async def test_another_epoch_or_a_later_sequence_changes_nothing(self, stores):
        await stores.log.append([a_draft(TOKEN, n) for n in range(5)])
        session = await created(stores)
        before, entries = await stores.log.head(), await stores.log.read(0, 10)
        assert await self.renew(stores, replaces="not-its-epoch") is None
        assert await self.renew(stores, sequence=5) is None
        assert await stores.log.head() == before
        assert await stores.log.read(0, 10) == entries
        assert (await stores.sessions.get(session.id)).floor == 0

    async def test_one_of_several_concurrent_renewals_wins(self, pair):
        head = await pair[0].log.head()
        answers = await asyncio.gather(
            *(self.renew(pair[n % 2], replaces=head.epoch, epoch=f"epoch-no-{n}") for n in range(8))
        )
        (renewed,) = [answer for answer in answers if answer is not None]
        assert await pair[1].log.head() == renewed

    async def test_concurrent_appends_leave_no_gap_in_either_log(self, pair):
        async def append():
            return [await pair[0].log.append([a_draft(TOKEN, n)]) for n in range(40)]

        appending = asyncio.create_task(append())
        await eventually(lambda: self.has_begun(pair[1]))
        renewed = await self.renew(pair[1])
        appended = await appending
        by_epoch: dict[str, list[int]] = {}
        for head, entries in appended:
            by_epoch.setdefault(head.epoch, []).extend(entry.sequence for entry in entries)
        late = by_epoch.get(renewed.epoch, [])
        assert late == list(range(self.START + 1, self.START + 1 + len(late)))
        found = [entry.sequence for entry in await pair[1].log.read(0, 1000)]
        assert found == [self.START, *late]

    @staticmethod
    async def has_begun(stores):
        return (await stores.log.head()).sequence > 3

    async def test_entries_of_the_previous_log_are_purged_in_batches(self, backend):
        async with backend.open() as stores:
            await stores.log.append([a_draft(TOKEN, n, expire_time=NOW + 9000) for n in range(7)])
            head = await self.renew(stores)
            if backend.name != "memory":  # which deletes them immediately
                assert [await stores.log.compact(NOW, 3) for _ in range(4)] == [3, 3, 1, 0]
            assert await stores.log.compact(NOW, 3) == 0
            assert await stores.log.head() == head
            assert await stores.log.compact(NOW + 4000, 3) == 1
            assert (await stores.log.head()).compacted == self.START


class TestPurgeFloors:
    async def test_purges_old_floors_without_sessions_below_them(self, stores):
        session = await created(stores, subject="carol", client_id="web")
        await stores.log.append(
            [
                a_draft(SUBJECT, "alice", revoke_time=NOW + 1),
                a_draft(SUBJECT, "bob", revoke_time=NOW + 2),
                a_draft(SUBJECT, "carol", revoke_time=NOW + 1),
                a_draft(CLIENT, "web", revoke_time=NOW + 1),
                a_draft(CLIENT, "carol", revoke_time=NOW + 1),
            ]
        )
        assert await stores.log.purge_floors(NOW + 1, 100) == (0, None)
        assert await stores.log.purge_floors(NOW + 2, 100) == (2, None)  # alice, and the client carol
        assert (await stores.sessions.get(session.id)).floor == 4
        assert await stores.log.purge_floors(NOW + 3, 100) == (1, None)  # bob
        assert await stores.sessions.purge(NOW + 1e9, 10) == 1
        assert await stores.log.purge_floors(NOW + 3, 100) == (2, None)

    async def test_purges_a_floor_below_all_sessions(self, stores):
        await stores.log.append([a_draft(SUBJECT, "alice", revoke_time=NOW - 2 * 3600)])
        session = await created(stores)
        assert await stores.log.purge_floors(NOW, 100) == (1, None)
        assert (await stores.sessions.get(session.id)).floor == 0

    async def test_keeps_the_floor_of_an_older_session_with_a_later_clock(self, stores):
        session = await created(stores)
        await stores.log.append([a_draft(SUBJECT, "alice", revoke_time=NOW - 2 * 3600)])
        assert await stores.log.purge_floors(NOW, 100) == (0, None)
        assert (await stores.sessions.get(session.id)).floor == 1

    async def test_the_floor_of_everything_stays(self, stores):
        await stores.log.append([a_draft(EVERYTHING, "", revoke_time=NOW - 1e6)])
        assert await stores.log.purge_floors(NOW, 100) == (0, None)
        assert (await created(stores)).floor == 1

    async def test_counts_the_age_of_a_floor_from_its_last_raise(self, stores):
        await stores.log.append([a_draft(SUBJECT, "alice", revoke_time=NOW + 1)])
        await stores.log.append([a_draft(SUBJECT, "alice", revoke_time=NOW + 5)])
        assert await stores.log.purge_floors(NOW + 2, 100) == (0, None)

    async def test_batches_continue_past_the_floors_that_stay(self, backend, stores):
        names = [f"{number:02}" for number in range(10)]
        for name in names[:4]:
            await created(stores, subject=name)
        await stores.log.append([a_draft(SUBJECT, name) for name in names])
        after, purged = None, []
        while True:
            count, after = await stores.log.purge_floors(NOW + 100, 3, after)
            purged.append(count)
            if after is None:
                break
        assert (sum(purged), len(purged)) == (6, 4)
        if backend.name in BACKENDS:  # blind indexes have an order of their own
            assert purged == [0, 2, 3, 1]

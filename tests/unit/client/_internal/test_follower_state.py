from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.manual_clock import ManualClock
from tests.support.token_mint import ISSUER, Mint
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.messages import revocation_of
from token_service.client._internal.following.state import (
    AlwaysFresh,
    Feed,
    FollowerState,
    Probe,
    StreamProtocolError,
)
from token_service.tokens.fingerprint_set import fingerprint
from token_service.tokens.revocation import Cursor
from token_service.tokens.revocation_set import RevocationSet
from token_service.v1 import key_service_pb2, token_service_pb2
from token_service.v1.token_service_pb2 import Revocation, SnapshotBlock, StreamRevocationsResponse

S = 5.0
EPOCH = "epoch-one"


def key_set(revision: int = 1, issuer: str = ISSUER, *jwks: dict[str, Any]) -> key_service_pb2.KeySet:
    keys = [key_service_pb2.JsonWebKey(**jwk) for jwk in jwks or (Mint().jwk,)]
    return key_service_pb2.KeySet(revision=revision, issuer=issuer, keys=keys)


def entry(sequence: int, token_id: str | None = None, **changes: Any) -> Revocation:
    known = Revocation(sequence=sequence, token_id=token_id or f"id-{sequence}", **changes)
    known.revoke_time.seconds = 1_700_000_000
    known.expire_time.seconds = 1_700_000_000 + 100_000
    return known


def message(*entries: Revocation, cursor: str | int = "", **fields: Any) -> StreamRevocationsResponse:
    if isinstance(cursor, int):
        cursor = f"{EPOCH}:{cursor}"
    return StreamRevocationsResponse(revocations=entries, cursor=cursor, **fields)


def snapshot(upto: int, *, cursor: str | int | None = None, **fields: Any) -> StreamRevocationsResponse:
    ids = b"".join(sorted(fingerprint(f"id-{number}") for number in range(1, upto + 1)))
    block = SnapshotBlock(target=token_service_pb2.BLOCK_TARGET_TOKEN_ID, bucket=0, fingerprints=ids)
    block.expire_time.seconds = 1_700_000_000 + 100_000
    return message(
        cursor=upto if cursor is None else cursor,
        reset=True,
        snapshot_blocks=[block],
        **{"key_set": key_set(), **fields},
    )


@dataclass
class Bench:
    clock: ManualClock = field(default_factory=ManualClock)
    taken: list[tuple[int, int]] = field(default_factory=list)
    usable: bool = True
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.follower_state = FollowerState(ISSUER, S, self.clock, self._take, self.counters)

    def _take(self, jwks: Sequence[Any], revision: int) -> bool:
        if not jwks or not self.usable:
            return False
        self.taken.append((revision, len(jwks)))
        return True

    def is_fresh(self) -> bool:
        return self.follower_state.feed.is_fresh(self.clock.now(), self.clock.elapsed())

    def knows(self, number: int) -> bool:
        return self.follower_state.feed.revocations.has_token_id(f"id-{number}", None)

    def prove(self, head: int | str, *, delay: float = 0.0) -> None:
        probe = self.follower_state.begin_probe()
        self.clock.advance(delay)
        self.follower_state.answer(probe, head if isinstance(head, str) else f"{EPOCH}:{head}")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_fresh_before_it_is_proven(bench: Bench) -> None:
    assert bench.follower_state.connect() == ""
    bench.follower_state.receive(snapshot(3))
    assert [bench.knows(n) for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert not bench.is_fresh()
    bench.prove(3)
    assert bench.is_fresh()


def test_a_new_replica_has_an_empty_set_and_is_not_fresh_at_any_time(bench: Bench) -> None:
    assert not bench.is_fresh()
    assert len(bench.follower_state.feed.revocations) == 0
    assert not bench.knows(1)
    feed, infinity = Feed(), float("inf")
    assert (feed.fresh_from, feed.fresh_to, feed.fresh_until) == (infinity, -infinity, -infinity)
    assert feed.proven_at == bench.follower_state.feed.proven_at == -infinity
    for now in (0.0, bench.clock.wall):
        for elapsed in (-(10.0**9), bench.clock.running):
            assert not bench.follower_state.feed.is_fresh(now, elapsed)
            assert AlwaysFresh().is_fresh(now, elapsed)
    assert len(AlwaysFresh().revocations) == 0


def test_new_replica_may_probe_and_keeps_its_stream(bench: Bench) -> None:
    assert bench.follower_state.may_probe()
    bench.follower_state.sweep()
    bench.follower_state.connect()
    assert not bench.follower_state.needs_new_stream(10)
    assert bench.follower_state.key_revision < 0
    assert bench.follower_state.jwks == []
    assert bench.follower_state.issuer_seen is None


def restored(bench: Bench, sequence: int) -> None:
    """Restore the state from a saved set."""
    known = RevocationSet()
    for number in range(1, sequence + 1):
        known.apply(revocation_of(entry(number)))
    bench.follower_state.restore(known, Cursor(EPOCH, sequence), bench.clock.elapsed() - 7.0)
    assert bench.follower_state.restore_keys([Mint().jwk], 5)


def test_a_restored_replica_resumes_and_is_fresh_once_it_is_proven(bench: Bench) -> None:
    restored(bench, 5)
    assert not bench.is_fresh()
    assert bench.follower_state.feed.proven_at == bench.clock.elapsed() - 7.0
    assert bench.follower_state.connect() == f"{EPOCH}:5"
    assert not bench.follower_state.needs_new_stream(10)
    bench.follower_state.receive(message(entry(6), cursor=6))
    bench.prove(6)
    assert bench.is_fresh()
    assert [bench.knows(n) for n in (5, 6, 7)] == [True, True, False]
    assert bench.taken == [(5, 1)]


def test_restored_replica_takes_no_older_snapshot_or_keys(bench: Bench) -> None:
    restored(bench, 5)
    bench.follower_state.receive(snapshot(3, key_set=key_set(4)))
    assert bench.knows(5)
    assert str(bench.follower_state.cursor) == f"{EPOCH}:5"
    bench.follower_state.receive(message(entry(4), entry(5), entry(6), cursor=6))
    assert str(bench.follower_state.cursor) == f"{EPOCH}:6"
    assert bench.taken == [(5, 1)]
    assert bench.follower_state.key_revision == 5


def test_a_restored_replica_notices_a_clock_that_was_set(bench: Bench) -> None:
    restored(bench, 5)
    bench.clock.set_wall(61)
    bench.prove(5)
    assert not bench.is_fresh()
    assert bench.follower_state.needs_new_stream(10)


def test_a_first_snapshot_comes_in_several_messages(bench: Bench) -> None:
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    bench.follower_state.receive(message(entry(1)))
    bench.follower_state.receive(message(entry(2), cursor=2))
    assert [bench.knows(n) for n in (1, 2, 3)] == [True, True, False]
    assert bench.counters.resets == 1
    assert bench.counters.revocations == 0
    bench.follower_state.receive(message(entry(3), entry(4), cursor=4))
    assert bench.counters.revocations == 2


def test_stream_after_a_broken_continuation_must_begin_with_a_snapshot(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.follower_state.distrust()
    assert bench.follower_state.connect() == ""
    with pytest.raises(StreamProtocolError, match="begin"):
        bench.follower_state.receive(message(entry(3), cursor=3))


def test_a_message_without_cursor_and_keys_leaves_both_as_they_are(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.follower_state.receive(message(key_set=key_set(2)))
    assert str(bench.follower_state.cursor) == f"{EPOCH}:2"
    bench.follower_state.receive(message(entry(3), cursor=3))
    assert bench.follower_state.key_revision == 2
    assert bench.counters.key_sets_refused == 0
    assert bench.follower_state.issuer_seen == ISSUER


def test_snapshot_behind_the_replica_must_be_continued_without_a_gap(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(3))
    bench.follower_state.receive(message(key_set=key_set(2)))
    with pytest.raises(StreamProtocolError, match="missing"):
        bench.follower_state.receive(message(entry(5), cursor=5))


def test_message_without_an_entry_is_no_progress(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(2)
    bench.clock.advance(6)
    bench.follower_state.receive(message(cursor=1))
    bench.clock.advance(6)
    assert bench.follower_state.needs_new_stream(10)


def test_parts_of_a_snapshot_are_progress(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(3)
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    bench.clock.advance(6)
    part = snapshot(1)
    part.reset, part.cursor = False, ""
    bench.follower_state.receive(part)
    bench.clock.advance(6)
    assert not bench.follower_state.needs_new_stream(10)
    bench.clock.advance(6)
    assert bench.follower_state.needs_new_stream(10)


def test_distrusted_snapshot_is_not_waited_for(bench: Bench) -> None:
    bench.follower_state.receive(message(reset=True))
    bench.follower_state.distrust()
    assert bench.follower_state.needs_new_stream(10)
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    assert not bench.follower_state.needs_new_stream(10)


def test_probes_out_of_turn_are_a_tenth_of_s_apart(bench: Bench) -> None:
    bench.follower_state.begin_probe()
    bench.clock.advance(S / 10)
    assert not bench.follower_state.may_probe()
    bench.clock.advance(0.01)
    assert bench.follower_state.may_probe()


@pytest.mark.parametrize("drift", [60.0, -60.0])
def test_clocks_may_drift_apart_by_a_minute(bench: Bench, drift: float) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.clock.set_wall(drift)
    bench.prove(1)
    assert bench.is_fresh()
    assert not bench.follower_state.needs_new_stream(10)
    bench.clock.set_wall(drift / 60)
    bench.prove(1)
    assert bench.follower_state.needs_new_stream(10)


def test_malformed_head_is_no_answer(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    with pytest.raises(StreamProtocolError):
        bench.follower_state.answer(bench.follower_state.begin_probe(), "nonsense")
    assert not bench.is_fresh()


def test_a_probe_that_began_before_the_clock_was_set_proves_nothing_of_a_later_snapshot(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    probe = bench.follower_state.begin_probe()
    bench.clock.set_wall(3600)
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(1))
    bench.follower_state.answer(probe, f"{EPOCH}:1")
    assert bench.follower_state.feed.proven_at == float("-inf")
    bench.prove(1)
    assert bench.is_fresh()


def test_a_stream_is_behind_from_the_first_answer_that_shows_it(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(2)
    bench.clock.advance(6)
    bench.prove(2)
    bench.clock.advance(4)
    assert not bench.follower_state.needs_new_stream(10)
    bench.clock.advance(0.5)
    assert bench.follower_state.needs_new_stream(10)


def test_a_probe_before_the_first_snapshot_proves_nothing(bench: Bench) -> None:
    bench.prove(0)
    assert not bench.is_fresh()
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(0))
    assert not bench.is_fresh()
    bench.prove(0)
    assert bench.is_fresh()


def test_shorter_log_of_another_epoch_withdraws_no_proof(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    bench.prove("epoch-two:3")
    assert bench.is_fresh()
    assert not bench.follower_state.needs_new_stream(10)
    bench.clock.advance(10.5)
    assert bench.follower_state.needs_new_stream(10)


@pytest.mark.parametrize(
    ("now", "elapsed", "fresh"),
    [
        (10.0, 4.5, True),
        (19.5, 4.5, True),
        (9.5, 4.5, False),
        (20.0, 4.5, False),
        (15.0, 5.0, False),
        (15.0, 5.5, False),
    ],
)
def test_both_clocks_must_agree_on_freshness(now: float, elapsed: float, fresh: bool) -> None:  # noqa: FBT001
    feed = Feed()
    feed.fresh_from, feed.fresh_to, feed.fresh_until = 10.0, 20.0, 5.0
    assert feed.is_fresh(now, elapsed) is fresh


def test_fresh_for_s_from_the_start_of_the_probe(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(1, delay=2.0)
    bench.clock.advance(S - 2.0 - 0.001)
    assert bench.is_fresh()
    bench.clock.advance(0.001)
    assert not bench.is_fresh()


def test_answer_buffered_while_the_process_was_stopped_proves_no_freshness(
    bench: Bench,
) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(1)
    probe = bench.follower_state.begin_probe()
    bench.clock.advance(60)
    assert not bench.is_fresh()
    bench.follower_state.answer(probe, f"{EPOCH}:1")
    assert not bench.is_fresh()
    bench.prove(1)
    assert bench.is_fresh()


def test_head_proves_freshness_once_it_is_applied(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(3, delay=0.5)
    assert not bench.is_fresh()
    bench.follower_state.receive(message(entry(2), cursor=2))
    assert not bench.is_fresh()
    bench.follower_state.receive(message(entry(3), cursor=3))
    assert bench.is_fresh()
    bench.clock.advance(S - 0.5)
    assert not bench.is_fresh()


def test_the_head_of_another_log_proves_nothing(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove("epoch-two:0")
    assert not bench.is_fresh()


def test_a_valid_cursor_resumes(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    assert bench.follower_state.connect() == f"{EPOCH}:2"
    bench.follower_state.receive(message(entry(3), cursor=3))
    assert bench.knows(1)
    assert bench.knows(3)


@pytest.mark.parametrize(
    "bad",
    [
        message(entry(4), cursor=4),
        message(entry(3), entry(5), cursor=5),
        message(entry(3)),
        message(entry(3), cursor=4),
        message(entry(3), cursor=2),
        message(cursor=7),
        message(cursor=1),
        message(entry(3), cursor="epoch-two:3"),
        message(entry(3), cursor="nonsense"),
        message(Revocation(sequence=3), cursor=3),
        message(
            cursor=2,
            snapshot_blocks=[
                SnapshotBlock(target="BLOCK_TARGET_TOKEN_ID", bucket=0, fingerprints=b"12345678")
            ],
        ),
    ],
    ids=[
        "gap",
        "inner gap",
        "no cursor",
        "cursor ahead",
        "cursor behind",
        "skip",
        "back",
        "other log",
        "no cursor at all",
        "no target",
        "stray block",
    ],
)
def test_broken_stream_is_replaced_and_the_set_is_kept(bench: Bench, bad: StreamRevocationsResponse) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.prove(2)
    with pytest.raises(StreamProtocolError):
        bench.follower_state.receive(bad)
    bench.follower_state.distrust()
    assert bench.is_fresh()  # the earlier proof stays valid
    assert bench.knows(2)
    assert bench.follower_state.connect() == ""
    bench.follower_state.receive(snapshot(3))
    assert bench.follower_state.connect() == f"{EPOCH}:3"


@pytest.mark.parametrize(
    "blocks", [[(9, b"12345678")], [(1, b"1234567")], [(1, b"b" * 8 + b"a" * 8)], [(0, b"")]], ids=str
)
def test_a_snapshot_that_can_not_be_read_changes_nothing(
    bench: Bench, blocks: list[tuple[Any, bytes]]
) -> None:
    bench.follower_state.receive(snapshot(2))
    bad = message(
        reset=True,
        cursor=9,
        snapshot_blocks=[SnapshotBlock(target=t, bucket=0, fingerprints=f) for t, f in blocks],
    )
    with pytest.raises(StreamProtocolError):
        bench.follower_state.receive(bad)
    assert bench.knows(2)
    assert str(bench.follower_state.cursor) == f"{EPOCH}:2"


def test_a_stream_must_begin_with_a_snapshot_if_there_is_no_cursor(bench: Bench) -> None:
    bench.follower_state.connect()
    with pytest.raises(StreamProtocolError):
        bench.follower_state.receive(message(entry(1), cursor=1))


def test_a_snapshot_is_built_aside_and_swapped_whole(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    before = bench.follower_state.feed.revocations
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    bench.follower_state.receive(message(entry(6)))
    assert bench.follower_state.feed.revocations is before
    assert bench.is_fresh()
    assert str(bench.follower_state.cursor) == f"{EPOCH}:5"
    rest = snapshot(6)
    rest.reset = False
    bench.follower_state.receive(rest)
    assert bench.follower_state.feed.revocations is not before
    assert bench.knows(6)
    assert bench.is_fresh()


def test_a_snapshot_of_a_node_that_is_behind_waits_until_it_has_caught_up(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(3))
    assert bench.knows(5)
    assert str(bench.follower_state.cursor) == f"{EPOCH}:5"
    bench.follower_state.receive(message(entry(4), cursor=4))
    assert bench.counters.resets == 1
    bench.follower_state.receive(message(entry(5), cursor=5))
    assert bench.counters.resets == 2
    assert all(bench.knows(n) for n in range(1, 6))


def test_a_half_built_snapshot_is_dropped_with_its_stream(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    assert bench.follower_state.connect() == f"{EPOCH}:2"
    bench.follower_state.receive(message(entry(3), cursor=3))
    assert bench.knows(1)
    assert bench.knows(3)


def test_another_log_is_not_fresh_until_it_is_proven(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(1, cursor="epoch-two:1", key_set=key_set(1)))
    assert not bench.is_fresh()
    bench.prove("epoch-two:1")
    assert bench.is_fresh()


def test_restored_log_is_noticed(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    bench.prove(3)
    assert not bench.is_fresh()
    assert bench.follower_state.needs_new_stream(10)
    bench.prove(9)
    assert not bench.is_fresh()
    assert bench.follower_state.connect() == ""
    bench.follower_state.receive(snapshot(3))
    bench.prove(3)
    assert bench.is_fresh()
    assert not bench.knows(5)
    assert not bench.follower_state.needs_new_stream(10)


def test_restored_log_proves_nothing_when_it_is_as_long_as_before(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(3))
    bench.prove(3)
    bench.prove(2)
    assert not bench.is_fresh()
    bench.prove(3)  # its third entry is a different entry
    assert not bench.is_fresh()
    bench.follower_state.receive(snapshot(3))
    bench.prove(3)
    assert bench.is_fresh()


def test_snapshot_begun_before_the_restore_was_known_is_not_waited_for(
    bench: Bench,
) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    assert bench.follower_state.connect() == f"{EPOCH}:5"
    bench.follower_state.receive(snapshot(3))  # could come from a node that lags behind
    assert not bench.follower_state.needs_new_stream(10)
    bench.prove(3)
    assert not bench.is_fresh()
    assert bench.follower_state.needs_new_stream(10)
    assert bench.follower_state.connect() == ""
    bench.follower_state.receive(snapshot(3))
    assert not bench.follower_state.needs_new_stream(10)
    bench.prove(3)
    assert bench.is_fresh()


@pytest.mark.parametrize("put_back", [False, True])
def test_a_set_of_another_log_was_never_proven(bench: Bench, *, put_back: bool) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    if put_back:
        bench.prove(3)
        bench.follower_state.receive(snapshot(3))
    else:
        bench.follower_state.receive(snapshot(3, cursor="epoch-two:3"))
    assert bench.follower_state.feed.proven_at == float("-inf")


def test_new_snapshot_of_the_same_log_keeps_the_earlier_proof(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(5)
    proven_at = bench.follower_state.feed.proven_at
    bench.follower_state.distrust()
    bench.follower_state.receive(snapshot(6))
    assert bench.follower_state.feed.proven_at == proven_at


def test_answer_overtaken_by_a_later_probe_withdraws_nothing(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    overtaken = bench.follower_state.begin_probe()
    bench.clock.advance(1.0)
    bench.prove(1)
    bench.follower_state.answer(overtaken, f"{EPOCH}:1")
    bench.clock.advance(S - 0.5)
    assert bench.is_fresh()
    assert bench.follower_state.feed.proven_at == bench.clock.elapsed() - (S - 0.5)


def test_a_stream_that_stays_behind_is_replaced(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(2)
    assert not bench.follower_state.needs_new_stream(10)
    bench.clock.advance(10.5)
    assert bench.follower_state.needs_new_stream(10)
    bench.follower_state.connect()
    assert not bench.follower_state.needs_new_stream(10)
    bench.follower_state.receive(message(entry(2), cursor=2))
    bench.clock.advance(10.5)
    assert not bench.follower_state.needs_new_stream(10)


def test_stream_with_progress_is_not_replaced_however_far_behind(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    for number in range(2, 9):
        bench.prove(number * 1000)
        bench.clock.advance(6)
        bench.follower_state.receive(message(entry(number), cursor=number))
        bench.clock.advance(6)
        assert not bench.follower_state.needs_new_stream(10)
    bench.clock.advance(6)
    assert bench.follower_state.needs_new_stream(10)


@pytest.mark.parametrize("step", [-3600, -86_400, 3600, 86_400])
def test_changed_wall_clock_ends_freshness_until_a_new_snapshot(bench: Bench, step: float) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.prove(2)
    bench.clock.set_wall(step)
    assert not bench.is_fresh()
    bench.follower_state.sweep()
    assert bench.knows(2)
    bench.prove(2)
    assert not bench.is_fresh()
    assert bench.follower_state.needs_new_stream(10)
    assert bench.follower_state.connect() == ""
    bench.follower_state.receive(snapshot(2))
    assert not bench.is_fresh()
    bench.prove(2)
    assert bench.is_fresh()


def test_a_machine_that_was_suspended_is_not_fresh(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.prove(2)
    bench.clock.advance(8 * 3600)  # both clocks count a suspend
    assert not bench.is_fresh()


def test_a_paused_virtual_machine_is_caught_by_the_wall_clock(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.prove(2)
    bench.clock.set_wall(S)  # elapsed time stood still and the wall clock was corrected
    assert not bench.is_fresh()


def test_entries_expire(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(2))
    bench.clock.advance(100_000)
    bench.follower_state.sweep()
    assert bench.knows(2)
    bench.clock.advance(119)
    bench.follower_state.sweep()
    assert bench.knows(2)  # the wall clock may have gone back by a minute twice: before a probe and after it
    bench.clock.advance(2)
    bench.follower_state.sweep()
    assert not bench.knows(2)


def test_empty_older_and_foreign_key_sets_are_refused(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1, key_set=key_set(5)))
    for bad in (
        key_set(4),
        key_set(6, "https://other.test"),
        key_service_pb2.KeySet(revision=7, issuer=ISSUER),
    ):
        bench.follower_state.receive(message(cursor=1, key_set=bad))
    assert bench.taken == [(5, 1)]
    assert bench.counters.key_sets_refused == 3
    assert not bench.follower_state.take_key_set(key_set(3))
    assert bench.follower_state.take_key_set(key_set(5))
    assert bench.taken == [(5, 1)]
    assert bench.follower_state.take_key_set(key_set(6))
    assert bench.taken == [(5, 1), (6, 1)]
    assert bench.follower_state.key_revision == 6


def test_issuer_of_refused_keys_is_reported(bench: Bench) -> None:
    assert bench.follower_state.take_key_set(key_set(6, "https://other.test")) is False
    assert bench.follower_state.issuer_seen == "https://other.test"
    assert bench.follower_state.key_revision < 0
    bench.usable = False
    assert bench.follower_state.take_key_set(key_set(6)) is False
    assert bench.follower_state.issuer_seen == ISSUER
    assert (bench.follower_state.key_revision < 0, bench.follower_state.jwks, bench.taken) == (True, [], [])
    assert (bench.counters.key_sets, bench.counters.key_sets_refused) == (0, 2)
    bench.usable = True
    assert bench.follower_state.take_key_set(key_set(0)) is True
    assert bench.follower_state.take_key_set(key_set(0)) is True
    assert (bench.follower_state.key_revision, len(bench.follower_state.jwks), bench.taken) == (
        0,
        1,
        [(0, 1)],
    )
    assert (bench.counters.key_sets, bench.counters.key_sets_refused) == (1, 2)
    assert bench.follower_state.jwks[0]["kid"] == Mint().jwk["kid"]


def test_snapshot_of_another_log_resets_the_key_revision(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5, key_set=key_set(5)))
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True, key_set=key_set(2)))
    assert bench.taken == [(5, 1)]
    bench.follower_state.receive(message(cursor="epoch-two:0"))
    assert bench.taken == [(5, 1), (2, 1)]
    assert bench.follower_state.key_revision == 2


def test_keys_of_another_log_replace_those_of_the_first_revision(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1, key_set=key_set(0)))
    bench.follower_state.connect()
    others = Mint().jwk, Mint().jwk
    bench.follower_state.receive(snapshot(1, cursor="epoch-two:1", key_set=key_set(0, ISSUER, *others)))
    assert bench.taken == [(0, 1), (0, 2)]


def test_first_snapshot_does_not_replace_newer_fetched_keys(bench: Bench) -> None:
    assert bench.follower_state.take_key_set(key_set(5))
    bench.follower_state.receive(snapshot(1, key_set=key_set(4)))
    assert bench.taken == [(5, 1)]
    assert bench.follower_state.key_revision == 5


def test_a_whole_snapshot_is_progress(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(9)
    bench.follower_state.connect()
    bench.follower_state.receive(message(reset=True))
    bench.clock.advance(6)
    bench.follower_state.receive(message(cursor=5))
    bench.clock.advance(6)
    assert not bench.follower_state.needs_new_stream(10)


def test_applied_head_proves_freshness_beside_an_unapplied_one(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(9)
    bench.prove(1)
    assert bench.is_fresh()


def test_an_entry_that_was_applied_already_is_no_gap(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(3))
    bench.follower_state.receive(message(entry(2), entry(3), entry(4), cursor=4))
    assert str(bench.follower_state.cursor) == f"{EPOCH}:4"
    assert bench.knows(4)


def test_limited_number_of_answers_waits_for_their_heads(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    began = bench.clock.elapsed()
    for head in range(2, 11):
        bench.prove(head)
        bench.clock.advance(0.25)
    bench.follower_state.receive(message(entry(2), cursor=2))
    assert bench.follower_state.feed.proven_at == float("-inf")  # the oldest of nine was dropped
    for number in range(3, 11):
        bench.follower_state.receive(message(entry(number), cursor=number))
        assert bench.follower_state.feed.proven_at == began + 0.25 * (number - 2)
    assert bench.is_fresh()


def test_new_snapshot_of_the_same_log_keeps_waiting_answers(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(3)
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(3))
    assert bench.is_fresh()
    bench.follower_state.receive(snapshot(3, cursor="epoch-two:3"))
    assert not bench.is_fresh()


def test_snapshot_after_a_restore_drops_waiting_answers(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5))
    bench.prove(6)
    bench.prove(3)
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(3))
    bench.follower_state.receive(message(entry(4), entry(5), entry(6), cursor=6))
    assert not bench.is_fresh()
    assert not bench.follower_state.needs_new_stream(10)


def test_freshness_ends_by_the_wall_clock_a_minute_before_its_probe(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1))
    bench.prove(1)
    feed, now = bench.follower_state.feed, bench.clock.now()
    assert (feed.fresh_from, feed.fresh_to) == (now - 60.0, now + S)
    assert (feed.proven_at, feed.fresh_until) == (bench.clock.elapsed(), bench.clock.elapsed() + S)


def test_keys_of_another_log_may_have_a_lower_revision(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(1, key_set=key_set(5)))
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(1, cursor="epoch-two:1", key_set=key_set(1)))
    assert bench.taken == [(5, 1), (1, 1)]


@pytest.mark.parametrize("revision", [1, 2])
def test_keys_of_a_restored_log_may_be_older(bench: Bench, revision: int) -> None:
    bench.follower_state.receive(snapshot(5, key_set=key_set(2)))
    bench.prove(3)
    restored = Mint().jwk, Mint().jwk
    bench.follower_state.receive(snapshot(3, key_set=key_set(revision, ISSUER, *restored)))
    assert bench.taken == [(2, 1), (revision, 2)]
    assert bench.follower_state.key_revision == revision


def test_keys_of_a_node_that_is_behind_do_not_replace_newer_ones(bench: Bench) -> None:
    bench.follower_state.receive(snapshot(5, key_set=key_set(5)))
    bench.follower_state.connect()
    bench.follower_state.receive(snapshot(3, key_set=key_set(4)))
    bench.follower_state.receive(message(entry(4), entry(5), cursor=5))
    assert bench.taken == [(5, 1)]


def test_keys_are_taken_before_the_first_snapshot_is_complete(bench: Bench) -> None:
    bench.follower_state.receive(message(reset=True, key_set=key_set(2)))
    assert bench.taken == [(2, 1)]


def test_every_target_is_understood() -> None:
    for name, value in (
        ("token_id", "t"),
        ("session_id", "s"),
        ("subject", "u"),
        ("client_id", "c"),
        ("key_id", "k"),
    ):
        assert revocation_of(Revocation(sequence=1, **{name: value})).value == value  # type: ignore[arg-type]
    assert revocation_of(Revocation(sequence=1, everything=True)).value == ""
    with pytest.raises(ValueError, match="target"):
        revocation_of(Revocation(sequence=1))


class NeverStale(RuleBasedStateMachine):
    """Any order of events: a state that is fresh at v has every entry acknowledged before v - S."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.epoch = 1
        self.log: list[float] = []  # acknowledgment time of each entry, by elapsed time
        self.compacted = 0
        self.visible = 0  # entries of the log that the node of the stream has read
        self.position: int | None = None  # last sequence written to the stream
        self.wire: list[StreamRevocationsResponse] = []  # sent and not yet received
        self.probes: list[Probe] = []  # sent and not yet arrived
        self.answers: list[tuple[Probe, str]] = []  # answered and not yet received
        self.offset = 0.0
        self.connect()

    def name(self, sequence: int) -> str:
        return f"epoch-{self.epoch:03}:{sequence}"

    def ids(self, upto: int) -> bytes:
        return b"".join(sorted(fingerprint(f"id-{self.epoch}-{n}") for n in range(1, upto + 1)))

    @rule()
    def connect(self) -> None:
        cursor = self.bench.follower_state.connect()
        self.wire.clear()
        epoch, _, sequence = cursor.partition(":")
        known = int(sequence or -1)
        if epoch == f"epoch-{self.epoch:03}" and self.compacted <= known <= self.visible:
            self.position = known
            self.wire.append(StreamRevocationsResponse(cursor=cursor))
        else:
            self.position = self.visible
            block = SnapshotBlock(
                target=token_service_pb2.BLOCK_TARGET_TOKEN_ID, bucket=0, fingerprints=self.ids(self.visible)
            )
            block.expire_time.seconds = int(self.bench.clock.wall) + 100_000
            first = StreamRevocationsResponse(reset=True, snapshot_blocks=[block], key_set=key_set(1))
            self.wire += [first, StreamRevocationsResponse(cursor=self.name(self.visible))]

    @rule(count=st.integers(1, 3))
    def revoke(self, count: int) -> None:
        self.log += [self.bench.clock.running] * count

    @rule(how_far=st.floats(0, 1))
    def the_node_reads_the_log(self, how_far: float) -> None:
        self.visible += round((len(self.log) - self.visible) * how_far)

    @rule()
    def the_node_sends(self) -> None:
        if self.position is not None and self.position < self.visible:
            entries = [entry(n, f"id-{self.epoch}-{n}") for n in range(self.position + 1, self.visible + 1)]
            self.position = self.visible
            self.wire.append(StreamRevocationsResponse(revocations=entries, cursor=self.name(self.position)))

    @precondition(lambda self: self.wire)
    @rule()
    def receive(self) -> None:
        try:
            self.bench.follower_state.receive(self.wire.pop(0))
        except StreamProtocolError:
            self.bench.follower_state.distrust()
            self.connect()

    @rule()
    def move_to_a_node_that_is_behind(self) -> None:
        self.visible = max(self.compacted, self.visible - 2)
        self.connect()
        while self.wire:
            self.receive()

    @rule()
    def compact(self) -> None:
        self.compacted = self.visible

    @rule()
    def probe(self) -> None:
        self.probes.append(self.bench.follower_state.begin_probe())

    @precondition(lambda self: self.probes)
    @rule()
    def the_service_answers(self) -> None:
        self.answers.append((self.probes.pop(), self.name(len(self.log))))

    @precondition(lambda self: self.answers)
    @rule(last=st.booleans())
    def receive_answer(self, *, last: bool) -> None:
        probe, head = self.answers.pop(-1 if last else 0)
        self.bench.follower_state.answer(probe, head)
        if self.bench.follower_state.needs_new_stream(10):
            self.connect()

    @rule()
    def catch_up(self) -> None:
        self.visible = len(self.log)
        self.the_node_sends()
        while self.wire:
            self.receive()

    @rule(there=st.floats(0, 2), back=st.floats(0, 8), revoked=st.integers(0, 1))
    def prove(self, there: float, back: float, revoked: int) -> None:
        self.probe()
        self.bench.clock.advance(there)
        self.the_service_answers()
        self.revoke(revoked)
        self.bench.clock.advance(back)
        self.receive_answer(last=True)

    @rule(seconds=st.floats(0.01, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule(seconds=st.floats(3.0, 600.0))
    def the_process_is_stopped(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule(step=st.sampled_from([-7200.0, -3.0, 3.0, 7200.0]))
    def somebody_sets_the_wall_clock(self, step: float) -> None:
        self.bench.clock.set_wall(step)

    @rule()
    def sweep(self) -> None:
        self.bench.follower_state.sweep()

    @rule()
    def another_log(self) -> None:
        self.epoch += 1
        self.log = []
        self.visible = self.compacted = 0
        self.connect()

    @invariant()
    def fresh_means_nothing_acknowledged_before_is_missing(self) -> None:
        bench = getattr(self, "bench", None)
        if (
            bench is None
            or not bench.is_fresh()
            or str(bench.follower_state.cursor).partition(":")[0] != f"epoch-{self.epoch:03}"
        ):
            return
        for number, acknowledged in enumerate(self.log, 1):
            if acknowledged < bench.clock.running - S:
                assert bench.follower_state.feed.revocations.has_token_id(f"id-{self.epoch}-{number}", None)


TestNeverStale = NeverStale.TestCase
TestNeverStale.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)

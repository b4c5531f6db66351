"""StreamRevocations: start, messages, end and cost of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.deadline import eventually
from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, raising
from tests.unit.rpc.serving import Served, complaints, refused, serving
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.core.revocation.log import RevocationDraft
from token_service.errors import StoreUnavailableError
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.stream import feed as feed_module, gap_pages
from token_service.rpc.stream.ring import MAX_BATCH_BYTES
from token_service.tokens.claims import TokenKind
from token_service.tokens.fingerprint_set import fingerprint
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget
from token_service.tokens.revocation_set import Block, RevocationSet
from token_service.v1 import token_service_pb2 as pb


async def revoke(served: Served, *subjects: str) -> None:
    for subject in subjects:
        await served.revoke(subject=subject)


def draft(number: int, target: RevocationTarget = RevocationTarget.TOKEN_ID) -> RevocationDraft:
    now = SystemClock.now()
    return RevocationDraft(
        target=target,
        value=f"id-{number}",
        revoke_time=now,
        expire_time=now + 3900,
        token_expire_time=int(now) + number % 3600
        if target is RevocationTarget.TOKEN_ID and number % 3
        else None,
    )


async def revoke_many(served: Served, first: int, last: int, target: Any = RevocationTarget.TOKEN_ID) -> None:
    """Append entries as another node does, for the tailer of this node to find."""
    await served.node.log.append([draft(number, target) for number in range(first, last + 1)])
    await served.node.tailer.catch_up()


def ids_in(message: pb.StreamRevocationsResponse) -> set[str]:
    return {entry.subject or entry.token_id for entry in message.revocations}


# --- Start --------------------------------------------------------------------------------------------------


async def test_a_fresh_reader_of_an_empty_log_is_caught_up() -> None:
    async with serving() as served, served.follow() as reader:
        message = await reader.next()
        assert (message.reset, message.caught_up) == (True, True)
        assert message.cursor == str(served.node.replica.cursor)
        assert message.key_set.keys[0].kid == served.node.keyring.signer().key_id
        assert not message.revocations
        assert not message.snapshot_blocks


async def test_a_fresh_reader_gets_the_whole_live_set() -> None:
    async with serving() as served:
        session = (await served.issue()).session_id
        await revoke_many(served, 1, 50)
        await served.revoke(session_id=session)
        await revoke(served, "bob")
        await served.revoke(client_id="app")
        await served.revoke(key_id=served.node.keyring.signer().key_id)
        await served.revoke(everything=True)
        async with served.follow() as reader:
            message = await reader.caught_up()
            assert len(reader.messages) == 1
            assert message.reset
            assert message.cursor == str(served.node.replica.cursor)
            loaded = as_set(reader.messages)
            for number in range(1, 51):
                expiry = draft(number).token_expire_time
                assert loaded.has_token_id(
                    f"id-{number}", expiry if expiry is None else _near(loaded, number)
                )
            assert loaded.has_session(session)
            assert len(loaded) == len(served.node.replica.revocations)
            assert {entry.WhichOneof("target") for entry in message.revocations} == {
                "subject", "client_id", "key_id", "everything",
            }  # fmt: skip


def _near(loaded: RevocationSet, number: int) -> int:
    """Return the expiry with which an id is found. The id was made within the last seconds."""
    now = int(SystemClock.now()) + number % 3600
    return next((at for at in range(now - 100, now + 1) if loaded.has_token_id(f"id-{number}", at)), 0)


def as_set(messages: list[pb.StreamRevocationsResponse]) -> RevocationSet:
    """Return the revocation set of a reader of these messages."""
    known = RevocationSet()
    targets = {
        "token_id": RevocationTarget.TOKEN_ID,
        "session_id": RevocationTarget.SESSION,
        "subject": RevocationTarget.SUBJECT,
        "client_id": RevocationTarget.CLIENT,
        "key_id": RevocationTarget.KEY,
        "everything": RevocationTarget.EVERYTHING,
    }
    for message in messages:
        if message.reset:
            known = RevocationSet()
        for block in message.snapshot_blocks:
            kind = {1: RevocationTarget.TOKEN_ID, 2: RevocationTarget.SESSION}[block.target]
            known.load(Block(kind, block.bucket, block.fingerprints, block.expire_time.ToNanoseconds() / 1e9))
        for entry in message.revocations:
            chosen = entry.WhichOneof("target")
            assert chosen is not None
            known.apply(
                Revocation(
                    entry.sequence,
                    targets[chosen],
                    "" if chosen == "everything" else getattr(entry, chosen),
                    entry.revoke_time.ToNanoseconds() / 1e9,
                    entry.expire_time.ToNanoseconds() / 1e9,
                    token_expire_time=entry.token_expire_time.seconds
                    if entry.HasField("token_expire_time")
                    else None,
                )
            )
    return known


async def test_cursor_resumes_with_exactly_the_missing_entries() -> None:
    async with serving() as served:
        await revoke(served, "a", "b")
        async with served.follow() as reader:
            cursor = (await reader.caught_up()).cursor
        await revoke(served, "c", "d")
        async with served.follow(cursor) as resumed:
            message = await resumed.caught_up()
            assert not message.reset
            assert [entry.subject for entry in message.revocations] == ["c", "d"]
            assert [entry.sequence for entry in message.revocations] == [3, 4]
            assert message.HasField("key_set")
            await revoke(served, "e")
            message = await resumed.next()
            assert (ids_in(message), message.caught_up, message.HasField("key_set")) == ({"e"}, True, False)


async def test_reader_without_missing_entries_is_caught_up() -> None:
    async with serving() as served:
        await revoke(served, "a")
        async with served.follow(str(served.node.replica.cursor)) as reader:
            message = await reader.next()
            assert (message.reset, message.caught_up, len(message.revocations)) == (False, True, 0)
            assert message.cursor == str(served.node.replica.cursor)


@pytest.mark.parametrize("cursor", ["anotherlog:1", "{epoch}:1000", "{epoch}:2"])
async def test_unusable_cursor_gets_a_snapshot(cursor: str) -> None:
    async with serving(limits=GrpcLimits(ring_capacity=4)) as served:
        await revoke_many(served, 1, 30)
        await served.node.log.compact(SystemClock.now() + 1e6, 10)
        cursor = cursor.format(epoch=served.node.replica.epoch)
        async with served.follow(cursor) as reader:
            message = await reader.caught_up()
            assert message.reset
            assert message.snapshot_blocks
            assert message.cursor == str(served.node.replica.cursor)


@pytest.mark.parametrize(
    "cursor", ["nonsense", "a:b", "abcdefgh:-1", "abcdefgh:1e3", "x" * 10_000, "abcdefgh:01"]
)
async def test_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    async with serving() as served:
        failure = await refused(served.follow(cursor).call.read())
        assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", ["cursor"])
        failure = await refused(served.follow(subscriber_id="x" * 129).call.read())
        assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", ["subscriber_id"])
        assert len(served.feed) == 0


async def test_a_cursor_of_another_node_that_is_ahead_is_waited_for() -> None:
    async with serving(poll_interval=60.0) as served:
        _, entries = await served.node.log.append([draft(1), draft(2)])
        assert served.node.replica.applied == 0
        async with served.follow(f"{served.node.replica.epoch}:2") as reader:
            message = await reader.caught_up()
            assert not message.reset
            assert message.cursor.endswith(":2")
        assert served.node.replica.applied == len(entries)


async def test_entries_older_than_the_ring_are_read_from_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_pages, "PAGE", 7)
    async with serving(limits=GrpcLimits(ring_capacity=8)) as served:
        await revoke_many(served, 1, 100)
        epoch = served.node.replica.epoch
        for start in (0, 1, 50, 91, 95, 100):
            async with served.follow(f"{epoch}:{start}") as reader:
                await reader.caught_up()
                assert not any(message.reset for message in reader.messages)
                assert reader.sequences == list(range(start + 1, 101))
                assert all(message.cursor for message in reader.messages)
                assert [message.caught_up for message in reader.messages][:-1] == [False] * (
                    len(reader.messages) - 1
                )


async def test_readers_that_come_together_read_sql_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_pages, "PAGE", 10)
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    node = Node(clock, stores=stores, log=log, poll_interval=60.0)
    async with serving(node=node, limits=GrpcLimits(ring_capacity=8)) as served:
        await revoke_many(served, 1, 49)
        log.calls.clear()
        readers = [served.follow(f"{node.replica.epoch}:0") for _ in range(20)]
        await asyncio.gather(*(reader.caught_up() for reader in readers))
        assert all(reader.sequences == list(range(1, 50)) for reader in readers)
        assert log.calls.count("read") <= 5
        for reader in readers:
            reader.call.cancel()


async def test_200_readers_with_as_many_cursors_read_each_page_of_the_gap_once() -> None:
    """For example after an outage of a node: its ring is empty, and every subscriber resumes at its cursor."""
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    node = Node(clock, stores=stores, log=log, poll_interval=60.0)
    async with serving(node=node, limits=GrpcLimits(ring_capacity=8, connection_streams=200)) as served:
        await revoke_many(served, 1, 10_000)
        log.calls.clear()
        starts = [number * 49 for number in range(200)]
        readers = [served.follow(f"{node.replica.epoch}:{start}") for start in starts]
        await asyncio.gather(*(reader.caught_up() for reader in readers))
        for start, reader in zip(starts, readers, strict=True):
            assert not any(message.reset for message in reader.messages)
            assert reader.sequences == list(range(start + 1, 10_001))
            reader.call.cancel()
        assert log.calls.count("read") <= 15


async def test_a_gap_that_is_compacted_meanwhile_becomes_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_pages, "PAGE", 5)
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    node = Node(clock, stores=stores, log=log, poll_interval=60.0)
    async with serving(node=node, limits=GrpcLimits(ring_capacity=8)) as served:
        await revoke_many(served, 1, 60)

        async def compact() -> None:
            if log.calls.count("read") > 2:
                await stores.log.compact(SystemClock.now() + 1e6, 40)

        log.calls.clear()
        log.before["read"] = compact
        async with served.follow(f"{node.replica.epoch}:0") as reader:
            await reader.caught_up()
            assert [message.reset for message in reader.messages].count(True) == 1
            assert len(as_set(reader.messages)) == 60


async def test_stream_that_needs_an_unavailable_database_is_refused() -> None:
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    node = Node(clock, stores=stores, log=log, poll_interval=60.0)
    async with serving(node=node, limits=GrpcLimits(ring_capacity=4)) as served:
        await revoke_many(served, 1, 30)
        log.before["head"] = log.before["read"] = raising(StoreUnavailableError(retry_after=1))
        failure = await refused(served.follow(f"{node.replica.epoch}:1").call.read())
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        async with served.follow(f"{node.replica.epoch}:29") as reader:
            assert ids_in(await reader.caught_up()) == {"id-30"}
        async with served.follow() as reader:
            assert (await reader.caught_up()).reset
        assert len(served.feed) <= 2


# --- Snapshots --------------------------------------------------------------------------------------------------------


async def test_a_large_snapshot_comes_in_messages_of_a_size() -> None:
    async with serving() as served:
        await revoke_many(served, 1, 100_000)
        async with served.follow() as reader:
            await reader.caught_up()
            first, *middle, last = reader.messages
            assert [message.reset for message in reader.messages] == [True] + [False] * (
                len(reader.messages) - 1
            )
            assert first.HasField("key_set")
            assert not any(message.cursor for message in (first, *middle))
            assert last.cursor == str(served.node.replica.cursor)
            assert max(message.ByteSize() for message in reader.messages) <= MAX_BATCH_BYTES + 4096
            assert len(as_set(reader.messages)) == 100_000


async def test_readers_share_a_snapshot_and_get_the_tail() -> None:
    async with serving() as served:
        await revoke_many(served, 1, 500)
        feed = served.feed
        async with served.follow() as one:
            await one.caught_up()
            snapshot = feed._snapshots._latest
            assert snapshot is not None
            await revoke_many(served, 501, 510)
            async with served.follow() as two:
                await two.caught_up()
                assert feed._snapshots._latest is snapshot
                assert two.sequences == list(range(501, 511))
                assert len(as_set(two.messages)) == 510


async def test_snapshot_older_than_the_ring_is_rebuilt() -> None:
    async with serving(limits=GrpcLimits(ring_capacity=8)) as served:
        async with served.follow() as one:
            await one.caught_up()
        await revoke_many(served, 1, 40)
        async with served.follow() as two:
            assert (await two.caught_up()).reset
            assert len(two.messages) == 1
            assert len(as_set(two.messages)) == 40


async def test_snapshot_with_too_many_later_entries_is_rebuilt() -> None:
    async with serving() as served:
        async with served.follow() as one:
            await one.caught_up()
        await revoke_many(served, 1, feed_module._MAX_TAIL)
        async with served.follow() as two:
            await two.caught_up()
            assert len(two.sequences) == feed_module._MAX_TAIL
        await revoke_many(served, feed_module._MAX_TAIL + 1, feed_module._MAX_TAIL + 10)
        async with served.follow() as three:
            assert (await three.caught_up()).reset
            assert three.sequences == []
            assert len(as_set(three.messages)) == feed_module._MAX_TAIL + 10


async def test_entries_appended_during_a_snapshot_are_not_lost() -> None:
    async with serving() as served:
        await revoke_many(served, 1, 30_000)
        node = served.node
        packing = asyncio.Event()

        async def keep_revoking() -> None:
            await packing.wait()
            for number in range(30_001, 30_201):
                await revoke_many(served, number, number)

        class Watched(RevocationSet):
            __slots__ = ()

            def blocks(self) -> Iterator[Block]:
                packing.set()
                return super().blocks()

        revoking = asyncio.create_task(keep_revoking())
        snapshots = served.feed._snapshots
        node.replica.revocations.__class__ = Watched
        async with served.follow() as reader:
            await revoking
            while len(as_set(reader.messages)) < 30_200:
                await reader.next()
            assert snapshots._latest is not None
            assert reader.sequences == list(range(snapshots._latest.sequence + 1, 30_201))


async def test_replaced_log_gives_every_reader_a_snapshot() -> None:
    async with serving() as served:
        await revoke_many(served, 1, 5)
        async with served.follow(subscriber_id="v") as reader:
            old = (await reader.caught_up()).cursor
            fresh = RevocationSet(names=True)
            fresh.apply(Revocation(1, RevocationTarget.SUBJECT, "x", 1.0, 9e9))
            served.node.replica.reset("anotherlog", 1, fresh)
            message = await reader.next()
            assert (message.reset, message.cursor, message.caught_up) == (True, "anotherlog:1", True)
            assert ids_in(message) == {"x"}
            assert len(as_set(reader.messages)) == 1
            assert old != message.cursor


# --- Messages ----------------------------------------------------------------------------------------------------


async def test_many_entries_come_in_one_message() -> None:
    async with serving() as served, served.follow() as reader:
        await reader.caught_up()
        await revoke_many(served, 1, 1000)
        message = await reader.caught_up()
        assert len(reader.messages) == 2
        assert [entry.sequence for entry in message.revocations] == list(range(1, 1001))


async def test_a_burst_comes_in_messages_of_a_size() -> None:
    async with serving() as served, served.follow() as reader:
        await reader.caught_up()
        await revoke_many(served, 1, 9000)
        await reader.caught_up()
        burst = reader.messages[1:]
        assert reader.sequences == list(range(1, 9001))
        assert len(burst) < 12
        assert max(message.ByteSize() for message in burst) < MAX_BATCH_BYTES + 1024
        assert [message.caught_up for message in burst] == [False] * (len(burst) - 1) + [True]
        assert all(message.cursor for message in burst)


async def test_readers_are_sent_the_very_same_bytes() -> None:
    async with serving() as served:
        feed = served.feed
        made: list[bytes] = []
        original = feed._next

        def recording(stream: Any) -> bytes | None:
            message = original(stream)
            if message is not None:
                made.append(message)
            return message

        readers = [served.follow() for _ in range(10)]
        for reader in readers:
            await reader.caught_up()
        feed._next = recording  # type: ignore[method-assign]
        await revoke_many(served, 1, 100)
        for reader in readers:
            assert len((await reader.caught_up()).revocations) == 100
            reader.call.cancel()
        assert len(made) == 10
        assert len({id(message) for message in made}) == 1


async def test_entry_is_sent_with_all_its_fields() -> None:
    async with serving() as served:
        issued = await served.issue()
        async with served.follow() as reader:
            await reader.caught_up()
            await served.revoke(token=issued.access_token, reason=pb.REVOCATION_REASON_COMPROMISED)
            (entry,) = (await reader.next()).revocations
            assert (entry.sequence, entry.token_id) == (1, issued.token_id)
            assert entry.reason == pb.REVOCATION_REASON_COMPROMISED
            assert entry.token_expire_time == issued.access_token_expire_time
            assert entry.expire_time.seconds == issued.access_token_expire_time.seconds + 300
            assert entry.HasField("revoke_time")


async def test_a_changed_key_set_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as served, served.follow() as reader:
        first = await reader.caught_up()
        feed, keyring = served.feed, served.node.keyring
        feed._keys_changed()  # none has
        jwks = (*keyring.jwks, {**keyring.jwks[0], "kid": "another"})
        monkeypatch.setattr(type(keyring), "jwks", jwks)
        feed._keys_changed()
        message = await reader.next()
        assert [key.kid for key in message.key_set.keys] == [first.key_set.keys[0].kid, "another"]
        assert (message.caught_up, message.cursor) == (True, first.cursor)


async def test_subscribers_are_asked_to_confirm_reused_sequences_after_a_restore() -> None:
    """A log restored from a backup gives the same sequences to other entries."""
    async with serving() as served, served.follow(subscriber_id="v") as reader:
        await reader.caught_up()
        node = served.node
        await revoke(served, "a", "b", "c")
        node.subscribers.heard(3)
        while not (await reader.next()).confirmation_requested:
            pass
        node.replica.reset(node.replica.epoch, 2)
        node.subscribers.heard(2)
        message = await reader.next()
        while not message.confirmation_requested:
            message = await reader.next()
        assert message.cursor.endswith(":2")


async def test_subscribers_are_asked_to_confirm_for_a_wait() -> None:
    wait = pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout=Duration(seconds=20))
    async with serving() as served, served.follow(subscriber_id="v") as reader:
        await reader.caught_up()
        await served.revoke(subject="a")
        assert not (await reader.next()).confirmation_requested
        revoking = asyncio.ensure_future(served.revoke(subject="b", wait=wait))
        message = await reader.next()
        while not message.confirmation_requested:
            message = await reader.next()
        assert message.cursor.endswith(":2")
        await served.tokens.ConfirmRevocations(
            pb.ConfirmRevocationsRequest(subscriber_id="v", applied_cursor=message.cursor)
        )
        outcome = await revoking
        assert (outcome.subscribers_connected, outcome.subscribers_applied) == (1, 1)
        await served.revoke(subject="c")
        assert not (await reader.next()).confirmation_requested


async def test_wait_for_an_earlier_entry_asks_subscribers_once_more() -> None:
    async with serving() as served, served.follow(subscriber_id="v") as reader:
        await reader.caught_up()
        await served.revoke(subject="a")
        await reader.next()
        waiting = asyncio.create_task(
            served.node.waits.wait_applied(Cursor(served.node.replica.epoch, 1), 20)
        )
        message = await reader.next()
        assert (message.confirmation_requested, len(message.revocations)) == (True, 0)
        served.node.subscribers.confirm("v", 1)
        assert await waiting == (1, 1)


async def test_named_readers_are_counted_for_as_long_as_they_read() -> None:
    async with serving() as served:
        one, two, unnamed = (
            served.follow(subscriber_id="a"),
            served.follow(subscriber_id="b"),
            served.follow(),
        )
        for reader in (one, two, unnamed):
            await reader.caught_up()
        assert served.node.subscribers.counts(0) == (2, 2)
        assert len(served.feed) == 3
        one.call.cancel()
        await eventually(lambda: served.node.subscribers.counts(0)[0] == 1)
        for reader in (two, unnamed):
            reader.call.cancel()
        await eventually(lambda: served.node.subscribers.counts(0)[0] == 0 and len(served.feed) == 0)


# --- End -----------------------------------------------------------------------------------------------------


async def test_a_stream_ends_at_its_greatest_age_and_is_resumed() -> None:
    async with serving(limits=GrpcLimits(stream_max_age=0.2)) as served:
        reader = served.follow()
        await reader.caught_up()
        cursor = reader.cursor
        failure = await reader.ended()
        assert (failure.code, failure.reason) == ("ABORTED", "STREAM_ENDED")
        assert failure.retry_after is not None
        await revoke(served, "a")
        async with served.follow(cursor) as resumed:
            assert ids_in(await resumed.next()) == {"a"}


async def test_streams_that_began_together_do_not_end_together() -> None:
    async with serving() as served:
        readers = [served.follow() for _ in range(30)]
        for reader in readers:
            await reader.caught_up()
        ends = [stream.until for stream in served.feed._streams]
        age = GrpcLimits().stream_max_age
        assert max(ends) - min(ends) > 0.1 * age
        assert max(ends) - SystemClock.monotonic() <= 1.2 * age
        for reader in readers:
            reader.call.cancel()


async def test_when_the_server_stops_its_streams_can_be_resumed_elsewhere() -> None:
    async with serving() as served:
        reader = served.follow()
        await reader.caught_up()
        stopping = asyncio.create_task(served.server.stop(300))
        failure = await reader.ended()
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert failure.retry_after is not None
        await asyncio.wait_for(stopping, 60)  # the stop does not wait for the whole grace


async def test_no_stream_begins_once_the_server_stops() -> None:
    async with serving() as served:
        served.feed.close()
        failure = await refused(served.follow().call.read())
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")


async def test_more_streams_than_allowed_are_refused() -> None:
    async with serving(limits=GrpcLimits(max_streams=2)) as served:
        one, two = served.follow(), served.follow()
        for reader in (one, two):
            await reader.caught_up()
        failure = await refused(served.follow().call.read())
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert failure.retry_after is not None
        one.call.cancel()
        await eventually(lambda: len(served.feed) == 1)
        async with served.follow() as third:
            await third.caught_up()
        two.call.cancel()


class Stalled:
    """A reader with its own connection and small windows, which does not read."""

    def __init__(self, served: Served, cursor: str = "") -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 1024),
        ]
        self.channel = grpc.aio.insecure_channel(served.address, options=options)
        self.reader = served.follow(cursor, "stalled", channel=self.channel)


async def stall(served: Served, stalled: Stalled, step: int = 2000) -> Any:
    """Revoke in steps until the windows of the reader are full. Return its stream on the server."""
    await stalled.reader.caught_up()
    (stream,) = served.feed._streams
    for number in range(1, 400_000, step):
        await revoke_many(served, number, number + step - 1)
        await asyncio.sleep(0)
        since = stream.sending_since
        if since is not None:
            await asyncio.sleep(0.5)  # even a busy machine rarely takes this long to send
            if stream.end is not None or stream.sending_since == since:
                return stream
    raise AssertionError("the reader's windows never were full")


async def test_a_reader_that_does_not_read_is_ended_and_others_are_not() -> None:
    limits = GrpcLimits(stream_max_stall=0.3, ring_capacity=1_000_000)
    async with serving(limits=limits) as served:
        stalled = Stalled(served)
        await stall(served, stalled)
        async with served.follow() as reader:
            await reader.caught_up()
            await eventually(lambda: any(stream.end for stream in served.feed._streams))
            failure = await stalled.reader.ended()
            assert (failure.code, failure.reason) == ("ABORTED", "STREAM_ENDED")
            await eventually(lambda: len(served.feed) == 1)
            await revoke(served, "after")
            assert ids_in(await reader.next()) == {"after"}
        await stalled.channel.close()


class Changeable(TrustingAuthorizer):
    """An authorizer with one caller, whose permissions a test may revoke."""

    def __init__(self) -> None:
        self.now = Rights.everything()
        self.listeners: list[Callable[[], None]] = []
        self.asked = 0

    def rights(self, caller: Caller) -> Rights:
        self.asked += 1
        return self.now

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def change(self, *permissions: Permission) -> None:
        self.now = Rights.of(*permissions)
        for listener in self.listeners:
            listener()


async def test_streams_end_without_the_permission_even_when_quiet() -> None:
    authorizer = Changeable()
    async with serving(authorizer=authorizer) as served:
        readers = [served.follow(subscriber_id=f"v-{number}") for number in range(20)]
        for reader in readers:
            await reader.caught_up()
        authorizer.change(Permission.SUBSCRIBE)
        assert authorizer.asked == 20
        await revoke(served, "a")
        for reader in readers:
            assert ids_in(await reader.next()) == {"a"}
        assert authorizer.asked == 20  # no caller is checked again until permissions change
        authorizer.change(Permission.VALIDATE)
        for reader in readers:
            failure = await reader.ended()
            assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
            assert failure.metadata == {"permission": "subscribe"}
        await eventually(lambda: len(served.feed) == 0)
        assert served.node.subscribers.counts(0) == (0, 0)


class ByToken(TrustingAuthorizer):
    """An authorizer whose caller presents an access token, which later expires early."""

    def __init__(self) -> None:
        self.caller = Caller("app", Rights.everything())
        self.expires = float("inf")
        self.listeners: list[Callable[[], None]] = []

    def identifier(self, method: str) -> Any:
        return lambda _call: self.caller

    def expire_time(self, caller: Caller) -> float:
        return self.expires

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)


@pytest.mark.parametrize("target", ["token_id", "client"])
async def test_revocation_of_the_bearer_token_ends_its_open_stream(target: str) -> None:
    authorizer = ByToken()
    async with serving(authorizer=authorizer) as served:
        node = served.node
        issued = await node.issue("app", client_id="app", kinds=frozenset({TokenKind.ACCESS}))
        other = served.follow()
        await other.caught_up()
        authorizer.caller = replace(authorizer.caller, token=node.verifier.verify(issued.access_token))
        reader = served.follow()
        await reader.caught_up()
        await revoke(served, "another")
        assert ids_in(await reader.next()) == {"another"}
        if target == "client":
            await node.revoke(target=RevocationTarget.CLIENT, value="app")
        else:
            await node.revoke(token=issued.access_token)
        failure = await reader.ended()
        assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
        assert len(served.feed) == 1  # the stream of the other caller stays
        failure = await served.follow().ended()  # as if it had been revoked while this request arrived
        assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")


async def test_reset_that_brings_the_revocation_of_a_bearer_token_ends_its_stream() -> None:
    async with serving(authorizer=ByToken()) as served:
        issued = await served.node.issue("app", client_id="app", kinds=frozenset({TokenKind.ACCESS}))
        await served.node.revoke(token=issued.access_token)
        reader = served.follow()
        await reader.caught_up()
        (stream,) = served.feed._streams
        stream.caller = replace(stream.caller, token=served.node.verifier.verify(issued.access_token))
        served.feed.was_reset()
        assert (await reader.ended()).code == "UNAUTHENTICATED"


async def test_proof_that_expires_early_after_a_change_ends_the_stream() -> None:
    authorizer = ByToken()
    async with serving(authorizer=authorizer) as served:
        reader = served.follow()
        await reader.caught_up()
        authorizer.expires = served.node.clock.now() - 1
        for listener in authorizer.listeners:
            listener()
        served.feed.sweep()
        failure = await reader.ended()
        assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")


async def test_caller_that_loses_its_permission_during_a_read_is_sent_nothing_more() -> None:
    authorizer = Changeable()
    async with serving(authorizer=authorizer) as served:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(floor: int) -> Any:
            began.set()
            await go_on.wait()
            return await original(floor)

        snapshots = served.feed._snapshots
        original = snapshots.get
        snapshots.get = slowly  # type: ignore[method-assign]
        reader = served.follow()
        reading = asyncio.create_task(reader.ended())
        await asyncio.wait_for(began.wait(), 60)
        authorizer.change()
        go_on.set()
        assert (await reading).reason == "PERMISSION_DENIED"
        assert reader.messages == []


@pytest.mark.parametrize("why", ["age", "permission"])
async def test_a_reader_that_does_not_read_is_ended_though_it_was_to_end_anyway(why: str) -> None:
    authorizer = Changeable()
    limits = GrpcLimits(stream_max_stall=3.0, ring_capacity=1_000_000)
    async with serving(limits=limits, authorizer=authorizer) as served:
        stalled = Stalled(served)
        stream = await stall(served, stalled)
        if why == "age":
            stream.until = stream.sending_since
        else:
            authorizer.change()
        await eventually(lambda: stream.end is not None)
        await eventually(stream.context.done)
        assert (await stalled.reader.ended()).reason == {
            "age": "STREAM_ENDED",
            "permission": "PERMISSION_DENIED",
        }[why]
        await stalled.channel.close()


async def test_a_reader_that_fell_out_of_the_ring_is_ended_and_resumes() -> None:
    async with serving(limits=GrpcLimits(ring_capacity=100)) as served:
        stalled = Stalled(served)
        stream = await stall(served, stalled, step=50)
        await revoke_many(served, 1, 300)
        assert stream.position < served.feed._ring.floor
        failure = await stalled.reader.ended()
        assert (failure.code, failure.reason) == ("ABORTED", "STREAM_ENDED")
        await stalled.channel.close()


async def test_stalled_reader_has_no_gaps_and_resumes() -> None:
    async with serving(limits=GrpcLimits(ring_capacity=100)) as served:
        stalled = Stalled(served)
        await stall(served, stalled, step=50)
        await revoke_many(served, 1, 300)
        reader = stalled.reader
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # noqa: PT012  # it says which of them, but not how many there are
            while True:
                await reader.next()
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert reader.sequences == list(range(1, len(reader.sequences) + 1))
        async with served.follow(reader.cursor) as resumed:
            await resumed.caught_up()
            assert not any(message.reset for message in resumed.messages)
            assert reader.sequences + resumed.sequences == list(range(1, served.node.replica.applied + 1))
        await stalled.channel.close()


async def test_a_stalled_reader_that_goes_away_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for max_stall in (0.2, 30.0):
        async with serving(limits=GrpcLimits(stream_max_stall=max_stall, ring_capacity=1_000_000)) as served:
            stalled = Stalled(served)
            await stall(served, stalled)
            if max_stall < 1:
                await eventually(lambda: any(stream.end for stream in served.feed._streams))
            await stalled.channel.close()
            await eventually(lambda: len(served.feed) == 0)
            await eventually(lambda: not served.feed._endings)
            assert served.node.subscribers.counts(0) == (0, 0)
    assert complaints(caplog) == []


async def test_a_thousand_readers_that_come_and_go_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(limits=GrpcLimits(connection_streams=1000)) as served:
        for _ in range(5):
            readers = [served.follow(subscriber_id=f"v-{number}") for number in range(200)]
            await asyncio.gather(*(reader.caught_up() for reader in readers))
            assert served.node.subscribers.counts(0)[0] == 200
            await revoke(served, "x")
            for reader in readers:
                reader.call.cancel()
            await eventually(lambda: len(served.feed) == 0)
        assert served.node.subscribers.counts(0) == (0, 0)
    assert complaints(caplog) == []


async def test_idle_streams_are_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as served:
        readers = [served.follow() for _ in range(20)]
        for reader in readers:
            await reader.caught_up()
        asked = 0
        original = served.feed._next

        def counting(stream: Any) -> bytes | None:
            nonlocal asked
            asked += 1
            return original(stream)

        monkeypatch.setattr(served.feed, "_next", counting)
        for _ in range(50):
            served.feed.sweep()
            await asyncio.sleep(0)
        assert asked == 0
        for reader in readers:
            reader.call.cancel()


def test_fingerprints_follow_the_contract() -> None:
    assert fingerprint("abc").hex() == "ba7816bf8f01cfea"

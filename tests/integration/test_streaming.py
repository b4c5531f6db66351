"""StreamRevocations on one node: snapshot, tail, resets, age, and the proof of freshness."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from tests.integration.calls import Api, Follower, refused, sequence
from tests.integration.nodes import Node
from tests.support.deadline import eventually


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as node:
        yield node


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with Api(node.grpc_address) as api:
        yield api


def fingerprint(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode()).digest()[:8]


def holds(follower: Follower, **target: str) -> bool:
    """Return whether a validator that has applied the stream refuses the target."""
    ((kind, value),) = target.items()
    if kind in ("token_id", "session_id") and fingerprint(value) in follower.fingerprints:
        return True
    return any(
        entry.WhichOneof("target") == kind and getattr(entry, kind) == value for entry in follower.entries
    )


async def test_a_snapshot_has_every_revocation_and_the_stream_continues(api: Api) -> None:
    known, unknown = await api.issue("snapshot"), "an-unknown-token-id"
    session = await api.issue("snapshot")
    await api.revoke(token=known.access_token)
    await api.revoke(token_id=unknown)
    await api.revoke(session_id=session.session_id)
    await api.revoke(subject="snapshot-subject")
    head = (await api.revoke(client_id="snapshot-client")).cursor
    async with Follower(api) as follower:
        await follower.caught_up_to(head)
        assert follower.resets == 1
        assert holds(follower, token_id=known.token_id)
        assert holds(follower, token_id=unknown)
        assert holds(follower, session_id=session.session_id)
        assert holds(follower, subject="snapshot-subject")
        assert holds(follower, client_id="snapshot-client")
        assert not holds(follower, token_id=session.token_id)
        (key_set,) = follower.key_sets
        assert key_set.issuer
        live = await api.issue("live")
        cursor = (await api.revoke(token=live.access_token)).cursor
        await follower.caught_up_to(cursor)
        entry = follower.entries[-1]
        assert (entry.token_id, entry.sequence) == (live.token_id, sequence(cursor))
        assert entry.token_expire_time == live.access_token_expire_time
        assert entry.expire_time.seconds >= live.access_token_expire_time.seconds
        assert follower.resets == 1


async def test_the_whole_log_is_resumed_without_a_reset(api: Api) -> None:
    start = await api.confirm("", "")
    cursors = [(await api.revoke(token_id=f"resumed-{number}")).cursor for number in range(50)]
    last = cursors[-1]
    for cursor in (start, cursors[24]):
        async with Follower(api, cursor) as follower:
            await follower.caught_up_to(last)
            assert follower.resets == 0
            assert follower.sequences == list(range(sequence(cursor) + 1, sequence(last) + 1))
    async with Follower(api, last) as follower:
        await follower.caught_up_to(last)
        assert (follower.resets, follower.entries) == (0, [])


def _was_reset_once(follower: Follower) -> bool:
    return follower.resets == 1


async def test_an_unknown_cursor_gets_a_snapshot_and_a_malformed_one_an_error(api: Api) -> None:
    head = (await api.revoke(subject="of-the-snapshot")).cursor
    epoch = head.partition(":")[0]
    for cursor in (f"{epoch}:{sequence(head) + 1000}", f"{'0' * len(epoch)}:1", "AnotherEpoch1:0"):
        async with Follower(api, cursor) as follower:
            await eventually(partial(_was_reset_once, follower))
            await follower.caught_up_to(head)
            assert holds(follower, subject="of-the-snapshot")
    for cursor in ("nonsense", epoch, f"{epoch}:", f"{epoch}:x"):
        async with Follower(api, cursor) as follower:
            end = await follower.ended()
            assert (end.code.name, end.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert list(end.violations) == ["cursor"]
        failure = await refused(api.confirm("someone", cursor))
        assert list(failure.violations) == ["applied_cursor"]


async def test_a_probe_returns_a_head_that_covers_every_acknowledged_revocation(api: Api) -> None:
    for number in range(20):
        acknowledged = (await api.revoke(token_id=f"probed-{number}")).cursor
        assert sequence(await api.confirm("prober", acknowledged)) >= sequence(acknowledged)


async def test_fifty_followers_receive_the_same_entries(api: Api) -> None:
    start = await api.confirm("", "")
    followers = [Follower(api, start) for _ in range(50)]
    for follower in followers:
        await follower.__aenter__()
    try:
        last = [await api.revoke(token_id=f"fanned-{number}") for number in range(100)][-1]
        await asyncio.gather(*(follower.caught_up_to(last.cursor) for follower in followers))
        expected = list(range(sequence(start) + 1, sequence(last.cursor) + 1))
        assert all(follower.sequences == expected and not follower.resets for follower in followers)
    finally:
        for follower in followers:
            await follower.cut()


async def test_repeated_and_unknown_revocations_are_acknowledged(api: Api) -> None:
    issued = await api.issue("twice")
    first = await api.revoke(session_id=issued.session_id)
    again = await api.revoke(session_id=issued.session_id)
    assert sequence(again.cursor) >= sequence(first.cursor)
    nothing = await api.revoke(token="rt_not-a-token")
    assert sequence(nothing.cursor) >= sequence(first.cursor)
    assert await api.why(issued.access_token) == "REVOKED"


async def test_a_revocation_hits_tokens_issued_before_it_and_none_after(api: Api) -> None:
    """Holds also within one second: the sequence decides, not the clock."""
    for target in ({"subject": "dave"}, {"client_id": "daves"}, {"everything": True}):
        for _ in range(5):
            before = await api.issue("dave", client_id="daves")
            await api.revoke(**target)
            after = await api.issue("dave", client_id="daves")
            assert await api.why(before.access_token) == "REVOKED"
            assert await api.why(before.refresh_token) == "REVOKED"
            assert await api.why(after.access_token) == ""
            assert await api.why(after.refresh_token) == ""


async def test_streams_end_at_their_maximum_age_and_resume_without_a_gap() -> None:
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_STREAM_MAX_AGE": "1s"}
    async with Node(env=env) as node, Api(node.grpc_address) as api:
        cursor = start = await api.confirm("", "")
        seen: list[int] = []
        last, rounds = start, 0
        # The last entry may come too late for its stream: then the next stream brings it.
        while rounds < 3 or sequence(cursor) < sequence(last):
            async with Follower(api, cursor) as follower:
                if (rounds := rounds + 1) <= 3:
                    last = (await api.revoke(subject="aged")).cursor
                end = await follower.ended()
            assert (end.code.name, end.reason) == ("ABORTED", "STREAM_ENDED")
            assert not follower.resets
            seen += follower.sequences
            cursor = follower.cursor
        assert seen == list(range(sequence(start) + 1, sequence(last) + 1))

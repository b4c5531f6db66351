"""The scenarios of `scenarios.json` about snapshots, streams and key sets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from tests.support.validation_vectors.fixed import KEY_SET, MINTS, NOW, key_set
from tests.support.validation_vectors.steps import (
    EXPIRE,
    LOG,
    NEXT_KEY,
    OTHER_LOG,
    REVOKED,
    STALE,
    answer,
    block,
    check,
    connect,
    entry,
    fresh,
    probe,
    receive,
    scenario,
    snapshot,
    tail,
)
from tests.support.validation_vectors.tokens import ACTIVE
from token_service.tokens.fingerprint_set import fingerprint


def of_streams() -> Iterator[dict[str, Any]]:
    """Yield the scenarios."""
    yield from _snapshots()
    yield from _streams()
    yield from _key_sets()


def _snapshots() -> Iterator[dict[str, Any]]:
    bucket = (NOW + 900) // 64
    ids = [f"other id {number}" for number in range(20)]
    mark = bytearray(fingerprint("id of alice"))
    mark[7] ^= 1
    session_bucket = EXPIRE // 1024
    cases: dict[str, tuple[list[dict[str, Any]], str]] = {
        "in the bucket of exp": ([block("TOKEN_ID", bucket, "id of alice", *ids)], REVOKED),
        "in bucket 0": ([block("TOKEN_ID", 0, "id of alice", *ids)], REVOKED),
        "in the second block of a bucket": (
            [block("TOKEN_ID", 0, *ids), block("TOKEN_ID", 0, "id of alice")],
            REVOKED,
        ),
        "in the bucket of another exp": ([block("TOKEN_ID", bucket + 1, "id of alice", *ids)], ACTIVE),
        "among the sessions": ([block("SESSION_ID", session_bucket, "id of alice", *ids)], ACTIVE),
        "with another last bit": ([block("TOKEN_ID", bucket, bytes(mark), *ids)], ACTIVE),
        "in no block": ([block("TOKEN_ID", bucket, *ids)], ACTIVE),
    }
    for name, (blocks, verdict) in cases.items():
        steps = [*fresh(cursor=9, snapshot_blocks=blocks), check("alice", verdict), check("bob", ACTIVE)]
        yield scenario(f"a snapshot with the token id {name}", steps)
    blocks = [block("TOKEN_ID", bucket + 1, "id of exp in the next bucket")]
    yield scenario(
        "the bucket of a token is that of its own exp",
        [
            *fresh(cursor=9, snapshot_blocks=blocks),
            check("exp in the next bucket", REVOKED),
            check("alice", ACTIVE),
        ],
    )
    for number in (session_bucket, session_bucket + 5):
        blocks = [block("SESSION_ID", number, "session-1", *ids)]
        yield scenario(
            f"a snapshot with the session in bucket {number}",
            [
                *fresh(cursor=9, snapshot_blocks=blocks),
                check("alice", REVOKED),
                check("alice rev 10", ACTIVE),
                check("alice without rev", ACTIVE),
            ],
        )
    yield scenario(
        "a snapshot counts only when it is complete",
        [
            *fresh(cursor=9),
            connect(1, f"{LOG}:9"),
            receive(
                {
                    "reset": True,
                    "key_set": KEY_SET,
                    "snapshot_blocks": [block("TOKEN_ID", 0, "id of alice")],
                },
                1,
            ),
            check("alice", ACTIVE, 1),
            receive({"snapshot_blocks": [block("SESSION_ID", session_bucket, "session-4")]}, 1),
            check("bob", ACTIVE, 1),
            receive(tail(cursor=11), 1),
            check("alice", REVOKED, 1),
            check("bob", REVOKED, 1),
            check("alice rev 11", ACTIVE, 1),
        ],
    )
    yield scenario(
        "an unfinished snapshot is forgotten when its stream ends",
        [
            connect(),
            receive(
                {"reset": True, "key_set": KEY_SET, "snapshot_blocks": [block("TOKEN_ID", 0, "id of alice")]}
            ),
            connect(0, ""),
            receive(snapshot(cursor=9)),
            probe("first", 0, 9),
            answer("first", 9),
            check("alice", ACTIVE),
        ],
    )
    yield scenario(
        "an unfinished snapshot does not mix with the entries of the next stream",
        [
            *fresh(entry(10, subject="alice"), cursor=10),
            connect(1, f"{LOG}:10"),
            receive({"reset": True, "key_set": KEY_SET}, 1),
            connect(1, f"{LOG}:10"),
            receive(tail(entry(11, subject="bob"), cursor=11), 1),
            check("alice", REVOKED, 1),
            check("bob", REVOKED, 1),
        ],
    )
    yield scenario(
        "a snapshot replaces the set",
        [
            *fresh(entry(10, subject="alice"), cursor=10),
            check("alice", REVOKED),
            receive(snapshot(entry(11, subject="bob"), cursor=11), 1),
            check("bob", REVOKED, 1),
            check("alice", ACTIVE, 1),
        ],
    )
    yield scenario(
        "a snapshot of a node that is behind waits for the entries that the set has",
        [
            *fresh(entry(10, subject="alice"), cursor=10),
            connect(1, f"{LOG}:10"),
            receive(snapshot(cursor=8), 1),
            check("alice", REVOKED, 1),
            receive(tail(entry(9, subject="x"), entry(10, subject="alice"), cursor=10), 1),
            check("alice", REVOKED, 1),
            check("bob", ACTIVE, 1),
        ],
    )
    yield scenario(
        "a head of another log proves nothing",
        [
            *fresh(cursor=9),
            probe("of another log", 4, 9),
            answer("of another log", 4, 4, OTHER_LOG),
            check("bob", STALE, 5),
            receive(snapshot(entry(3, subject="alice"), cursor=4, log=OTHER_LOG), 5),
            check("bob", STALE, 5),
        ],
    )
    yield scenario(
        "a snapshot of another log replaces the set and ends freshness",
        [
            *fresh(entry(10, subject="bob"), cursor=10),
            check("bob", REVOKED),
            probe("of the old log", 1, 10),
            receive(snapshot(entry(3, subject="alice"), cursor=4, log=OTHER_LOG), 1),
            answer("of the old log", 10, 1),
            check("bob", STALE, 1),
            probe("of the new log", 2, 4, OTHER_LOG),
            answer("of the new log", 4, 2, OTHER_LOG),
            check("bob", ACTIVE, 2),
            check("alice", ACTIVE, 2),
        ],
    )


def _streams() -> Iterator[dict[str, Any]]:
    yield scenario(
        "a stream resumes with the last cursor",
        [
            *fresh(cursor=9),
            receive(tail(entry(10, subject="x"), cursor=10)),
            connect(1, f"{LOG}:10"),
            receive({"key_set": KEY_SET, **tail(entry(11, session_id="session-1"), cursor=11)}, 1),
            check("alice", REVOKED, 1),
            check("bob", ACTIVE, 1),
            connect(2, f"{LOG}:11"),
        ],
    )
    yield scenario(
        "an entry that comes twice changes nothing",
        [
            *fresh(cursor=9),
            receive(tail(entry(10, subject="alice"), cursor=10)),
            receive(tail(entry(10, subject="alice"), entry(11, subject="x"), cursor=11)),
            check("alice", REVOKED),
            check("alice rev 10", ACTIVE),
            connect(1, f"{LOG}:11"),
        ],
    )
    broken: dict[str, dict[str, Any]] = {
        "a missing entry": tail(entry(11, subject="alice"), cursor=11),
        "an entry beyond its cursor": tail(entry(11, subject="alice"), cursor=9),
        "a cursor beyond the entries": tail(entry(10, subject="alice"), cursor=11),
        "entries of another log": tail(entry(10, subject="alice"), cursor=10, log=OTHER_LOG),
        "entries without a cursor": {"revocations": [entry(10, subject="alice")]},
        "an entry without a known target": tail(entry(10), cursor=10),
        "a part of a snapshot without its beginning": {
            "snapshot_blocks": [block("TOKEN_ID", 0, "id of alice")]
        },
        "a text that is no cursor": {"cursor": "10"},
    }
    for name, message in broken.items():
        yield scenario(
            f"a message with {name} ends the stream, and the next one begins with a snapshot",
            [
                *fresh(cursor=9),
                receive(message, 1, expect_error=True),
                check("alice", ACTIVE, 1),
                check("bob", ACTIVE, 1),
                connect(1, ""),
                receive(snapshot(entry(10, subject="alice"), cursor=10), 1),
                probe("again", 1, 10),
                answer("again", 10, 1),
                check("alice", REVOKED, 1),
                check("bob", ACTIVE, 1),
            ],
        )
    for name, changes in {
        "in descending order": {"fingerprints": b64encode(b"\2" * 8 + b"\1" * 8).decode()},
        "of 7 bytes": {"fingerprints": b64encode(bytes(7)).decode()},
        "of an unknown kind": {"target": "BLOCK_TARGET_UNSPECIFIED"},
    }.items():
        broken_block = {**block("TOKEN_ID", 0, "x"), **changes}
        yield scenario(
            f"a snapshot with fingerprints {name} ends the stream",
            [
                connect(),
                receive(snapshot(cursor=9, snapshot_blocks=[broken_block]), expect_error=True),
                probe("first"),
                answer("first", 9),
                check("alice", STALE),
                connect(0, ""),
            ],
        )
    yield scenario(
        "a first message without reset ends the stream",
        [
            connect(),
            receive(tail(entry(10, subject="alice"), cursor=10), expect_error=True),
            connect(0, ""),
        ],
    )


def _key_sets() -> Iterator[dict[str, Any]]:
    new = key_set(2, [NEXT_KEY.jwk, *KEY_SET["keys"]])
    without_es256 = key_set(3, [NEXT_KEY.jwk, MINTS["eddsa"].jwk])
    empty = key_set(4, [])
    foreign = {**key_set(9, [NEXT_KEY.jwk]), "issuer": "https://attacker.test"}
    yield scenario(
        "key sets replace each other by their revision",
        [
            *fresh(cursor=9),
            check("next key", "UNKNOWN_KEY"),
            receive({"key_set": new}),
            check("next key", ACTIVE),
            check("alice", ACTIVE),
            receive({"key_set": KEY_SET}),
            check("next key", ACTIVE),
            receive({"key_set": without_es256}),
            check("alice", "UNKNOWN_KEY"),
            check("next key", ACTIVE),
            receive({"key_set": empty}),
            check("next key", ACTIVE),
            receive({"key_set": foreign}),
            check("other key", ACTIVE),
        ],
    )
    yield scenario(
        "another log starts the revisions of key sets again",
        [
            *fresh(cursor=9, key_set=new),
            check("next key", ACTIVE),
            receive(snapshot(cursor=2, log=OTHER_LOG), 1),
            probe("of the new log", 1, 2, OTHER_LOG),
            answer("of the new log", 2, 1, OTHER_LOG),
            check("next key", "UNKNOWN_KEY", 1),
            check("alice", ACTIVE, 1),
        ],
    )

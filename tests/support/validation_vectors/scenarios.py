"""`scenarios.json`: what a validator receives over time, and the verdicts in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.validation_vectors.fixed import AUDIENCE, BOUND, ISSUER, MINTS, NOW
from tests.support.validation_vectors.steps import (
    NEXT_KEY,
    REVOKED,
    STALE,
    answer,
    check,
    connect,
    entry,
    fresh,
    probe,
    receive,
    scenario,
    snapshot,
    tail,
    time,
)
from tests.support.validation_vectors.streams import of_streams
from tests.support.validation_vectors.tokens import ACTIVE


def document() -> dict[str, Any]:
    """Return the content of the file."""
    scenarios = [*_freshness(), *_clocks(), *_targets(), *_floors(), *of_streams()]
    return {
        "about": "Streams of revocations with the verdicts in between. README.md describes the fields.",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "start": NOW,
        "bound": BOUND,
        "tokens": _tokens(),
        "scenarios": scenarios,
    }


def _tokens() -> dict[str, str]:
    es256, eddsa = MINTS["es256"], MINTS["eddsa"]
    changes: dict[str, dict[str, Any]] = {
        "alice": {"sub": "alice", "sid": "session-1", "client_id": "web", "rev": 9},
        "alice rev 10": {"sub": "alice", "sid": "session-2", "client_id": "web", "rev": 10},
        "alice rev 11": {"sub": "alice", "sid": "session-3", "client_id": "cli", "rev": 11},
        "alice without rev": {"sub": "alice", "sid": ..., "client_id": "cli", "rev": ...},
        "alice without rev, 1 s later": {
            "sub": "alice",
            "sid": ...,
            "client_id": "cli",
            "rev": ...,
            "iat": NOW + 1,
        },
        "alice without rev, 0.25 s later": {
            "sub": "alice",
            "sid": ...,
            "client_id": "cli",
            "rev": ...,
            "iat": NOW + 0.25,
        },
        "bob": {"sub": "bob", "sid": "session-4", "client_id": "web", "rev": 9},
        "bob cli": {"sub": "bob", "sid": ..., "client_id": "cli", "rev": 9},
        "exp in the next bucket": {"sub": "carol", "sid": ..., "client_id": "tv", "exp": NOW + 900 + 64},
    }
    tokens = {name: es256.token(NOW, jti=f"id of {name}", **these) for name, these in changes.items()}
    other_key = eddsa.token(NOW, jti="id of other key", sub="dave", sid=..., client_id="tv", rev=9)
    tokens["other key"] = other_key
    tokens["next key"] = NEXT_KEY.token(NOW, jti="id of next key", sub="dave", sid=..., client_id="tv", rev=9)
    return tokens


def _freshness() -> Iterator[dict[str, Any]]:
    yield scenario(
        "nothing is accepted before freshness is proven",
        [
            check("alice", STALE),
            connect(),
            check("alice", STALE),
            receive(snapshot(cursor=7)),
            check("alice", STALE),
            probe("first", 1, 7),
            check("alice", STALE, 1),
            answer("first", 7, 2),
            check("alice", ACTIVE, 2),
        ],
    )
    yield scenario(
        "freshness counts from the start of the probe and not from its answer",
        [
            connect(),
            receive(snapshot(cursor=7)),
            probe("first", 1, 7),
            answer("first", 7, 4),
            check("alice", ACTIVE, 5.999),
            check("alice", STALE, 6),
        ],
    )
    yield scenario(
        "an answer that arrives after the bound proves nothing",
        [*fresh(cursor=7), probe("late", 1, 7), answer("late", 7, 7), check("alice", STALE, 7)],
    )
    yield scenario(
        "an open stream with messages proves nothing",
        [*fresh(cursor=7), receive(tail(entry(8, subject="x"), cursor=8), 5), check("alice", STALE, 5)],
    )
    yield scenario(
        "a head that is not applied yet proves nothing",
        [
            connect(),
            receive(snapshot(cursor=7)),
            probe("first", 1, 7),
            answer("first", 9, 2),
            check("alice", STALE, 2),
            receive(tail(entry(8, subject="x"), cursor=8), 3),
            check("alice", STALE, 3),
            receive(tail(entry(9, session_id="session-1"), cursor=9), 3),
            check("alice", REVOKED, 3),
            check("bob", ACTIVE, 5.999),
            check("bob", STALE, 6),
        ],
    )
    yield scenario(
        "the answer of an older probe does not shorten freshness",
        [
            connect(),
            receive(snapshot(cursor=7)),
            probe("first", 1, 7),
            probe("second", 3, 7),
            answer("second", 7, 4),
            answer("first", 7, 4),
            check("alice", ACTIVE, 7.999),
            check("alice", STALE, 8),
        ],
    )
    yield scenario(
        "a probe without an answer does not end freshness",
        [*fresh(cursor=7), probe("lost", 2, 7), check("alice", ACTIVE, 4.999), check("alice", STALE, 5)],
    )
    yield scenario(
        "a head before the applied cursor ends freshness and asks for a snapshot",
        [
            *fresh(cursor=7),
            probe("back", 1, 7),
            answer("back", 5, 1),
            check("alice", STALE, 1),
            connect(1, ""),
            receive(snapshot(cursor=5), 1),
            check("alice", STALE, 1),
            probe("again", 1, 5),
            answer("again", 5, 1),
            check("alice", ACTIVE, 1),
        ],
    )
    yield scenario(
        "other flaws are found first, and a known revocation before staleness",
        [
            *fresh(entry(10, subject="alice"), cursor=10),
            check("alice", REVOKED, 6),
            check("alice", "WRONG_AUDIENCE", 6, audience="other"),
            check("alice", REVOKED, 6, required_scopes=["admin"]),
            check("bob", "INSUFFICIENT_SCOPE", 6, required_scopes=["admin"]),
            check("bob", STALE, 6),
            check("alice", "EXPIRED", 900),
        ],
    )


def _clocks() -> Iterator[dict[str, Any]]:
    yield scenario(
        "freshness counts from the start of the probe on both clocks",
        [
            connect(),
            receive(snapshot(cursor=7)),
            probe("first", 1, 7),
            answer("first", 7, 4),
            check("alice", ACTIVE, 5, wall=5.999),
            check("alice", STALE, 5, wall=6),
            check("alice", ACTIVE, 5.999, wall=5),
            check("alice", STALE, 6, wall=5),
        ],
    )
    yield scenario(
        "a wall clock that is set back does not lengthen freshness",
        [*fresh(cursor=7), check("alice", ACTIVE, 4.999, wall=2), check("alice", STALE, 5, wall=2)],
    )
    yield scenario(
        "the time that a machine sleeps counts, although its monotonic clock stops",
        [*fresh(cursor=7), check("alice", ACTIVE, 1, wall=4.999), check("alice", STALE, 1, wall=5)],
    )
    yield scenario(
        "clocks that drifted apart end freshness until the next snapshot",
        [
            *fresh(cursor=9),
            {**probe("after the step", 1, 9), "wall": 101},
            {**answer("after the step", 9, 1), "wall": 101},
            check("alice", STALE, 1, wall=101),
            {**connect(1, ""), "wall": 101},
            receive(snapshot(entry(10, subject="bob"), cursor=10), 1, wall=101),
            {**probe("with the snapshot", 1, 10), "wall": 101},
            {**answer("with the snapshot", 10, 1), "wall": 101},
            check("alice", ACTIVE, 1, wall=101),
            check("bob", REVOKED, 1, wall=101),
        ],
    )


def _targets() -> Iterator[dict[str, Any]]:
    alice = "id of alice"
    expiry = {"token_expire_time": time(NOW + 900)}
    targets: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
        "a token id with its expiry": ({"token_id": alice, **expiry}, ["alice"], ["alice rev 10", "bob"]),
        "a token id without its expiry": ({"token_id": alice}, ["alice"], ["alice rev 10", "bob"]),
        "a session": ({"session_id": "session-1"}, ["alice"], ["alice rev 10", "alice without rev"]),
        "a subject": (
            {"subject": "alice"},
            ["alice", "alice without rev"],
            ["alice rev 10", "alice rev 11", "alice without rev, 1 s later", "bob"],
        ),
        "a client": (
            {"client_id": "cli"},
            ["bob cli", "alice without rev"],
            ["alice", "alice rev 11", "bob"],
        ),
        "a key": (
            {"key_id": MINTS["es256"].jwk["kid"]},
            ["alice", "alice rev 11", "alice without rev, 1 s later", "bob"],
            ["other key"],
        ),
        "everything": (
            {"everything": True},
            ["alice", "bob", "other key", "alice without rev"],
            ["alice rev 10", "alice rev 11", "alice without rev, 1 s later"],
        ),
        "a subject of another name": ({"subject": "alic"}, [], ["alice", "alice without rev", "bob"]),
    }
    for name, (target, hit, missed) in targets.items():
        revocation = entry(10, **target)
        verdicts = [check(token, REVOKED) for token in hit] + [check(token, ACTIVE) for token in missed]
        yield scenario(
            f"an entry of the stream revokes {name}",
            [
                *fresh(cursor=9),
                *(check(token, ACTIVE) for token in (*hit, *missed)),
                receive(tail(revocation, cursor=10)),
                *verdicts,
            ],
        )
        if "token_id" not in target and "session_id" not in target:  # these come in blocks
            yield scenario(
                f"an entry of a snapshot revokes {name}", [*fresh(revocation, cursor=12), *verdicts]
            )
    yield scenario(
        "an entry counts until its last token has expired",
        [
            *fresh(entry(10, subject="alice"), cursor=10),
            {"at": 899, "do": "sweep"},
            probe("last", 899, 10),
            answer("last", 10, 899),
            check("alice", REVOKED, 899.9),
            check("bob", ACTIVE, 899.9),
            check("alice", "EXPIRED", 900),
            {"at": 2000, "do": "sweep"},
            check("alice", "EXPIRED", 2000),
        ],
    )


def _floors() -> Iterator[dict[str, Any]]:
    targets: dict[str, dict[str, Any]] = {
        "subject": {"subject": "alice"},
        "client": {"client_id": "cli"},
        "everything": {"everything": True},
    }
    for kind, target in targets.items():
        yield scenario(
            f"the highest of several entries for the same {kind} counts",
            [
                *fresh(entry(12, **target), entry(3, **target), cursor=12),
                check("alice rev 11", REVOKED),
                receive(tail(entry(13, NOW - 100, **target), cursor=13)),
                check("alice rev 11", REVOKED),
                check("alice without rev", REVOKED),
                check("alice without rev, 1 s later", ACTIVE),
            ],
        )
    yield scenario(
        "the fraction of revoke_time counts for a token without rev",
        [
            *fresh(entry(10, NOW - 0.5, subject="alice"), cursor=10),
            check("alice without rev", ACTIVE),
            receive(tail(entry(11, NOW + 0.125, subject="alice"), cursor=11)),
            check("alice without rev", REVOKED),
            check("alice without rev, 0.25 s later", ACTIVE),
            receive(tail(entry(12, NOW + 0.5, subject="alice"), cursor=12)),
            check("alice without rev, 0.25 s later", REVOKED),
            check("alice without rev, 1 s later", ACTIVE),
            receive(tail(entry(13, NOW + 1, subject="alice"), cursor=13)),
            check("alice without rev, 1 s later", REVOKED),
        ],
    )

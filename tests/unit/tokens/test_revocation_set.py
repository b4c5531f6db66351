from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.support.token_mint import Mint
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.fingerprint_set import fingerprint
from token_service.tokens.key_set import KeySet
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget
from token_service.tokens.revocation_set import UNKNOWN_EXPIRY, Block, Floor, RevocationSet
from token_service.tokens.verifier import IssuerRules, Verifier

NOW = 1_700_000_000
MINT = Mint()
VERIFIER = Verifier([(IssuerRules(MINT.issuer, frozenset(Algorithm)), KeySet.from_jwks([MINT.jwk]))])


def claims(**changes: Any) -> VerifiedClaims:
    return VERIFIER.verify(MINT.token(NOW, **changes))


def entry(target: RevocationTarget, value: str = "", sequence: int = 1, **changes: object) -> Revocation:
    known = {"revoke_time": NOW, "expire_time": NOW + 3900, **changes}
    return Revocation(sequence, target, value, **known)  # type: ignore[arg-type]


def the_set(*entries: Revocation) -> RevocationSet:
    revocations = RevocationSet(names=True)
    for one in entries:
        revocations.apply(one)
    return revocations


TOKENS = [
    claims(jti="a", sub="alice", client_id="web", sid="s1", rev=3),
    claims(jti="b", sub="alice", client_id="cli", sid="s2", rev=...),
    claims(jti="c", sub="bob", client_id="web", sid="s1", rev=7, exp=NOW + 901 + 64),
    claims(jti="d", sub="bob", client_id="cli", sid=..., rev=..., iat=NOW - 50, nbf=...),
]

_ONE_OF_EACH = [
    (RevocationTarget.TOKEN_ID, "a"),
    (RevocationTarget.SESSION, "0b6f1a0e-5b5c-4f0e-9a53-111111111111"),
    (RevocationTarget.SUBJECT, "user-1"),
    (RevocationTarget.CLIENT, "web"),
    (RevocationTarget.KEY, MINT.jwk["kid"]),
    (RevocationTarget.EVERYTHING, ""),
]
"""Each target revokes the token `a`."""
_TARGETS = [target.name for target, _ in _ONE_OF_EACH]
"""The ids of tests. The key id would differ in each process."""

_entries = st.builds(
    lambda sequence, target, value, back, known: entry(
        target,
        "" if target is RevocationTarget.EVERYTHING else value,
        sequence,
        revoke_time=NOW - back,
        expire_time=NOW + 3900 + sequence * 300,
        token_expire_time=(NOW + 900 if known else None) if target is RevocationTarget.TOKEN_ID else None,
    ),
    st.integers(1, 10),
    st.sampled_from(RevocationTarget),
    st.sampled_from(["a", "b", "c", "d", "alice", "bob", "web", "cli", "s1", "s2", MINT.jwk["kid"], "else"]),
    st.integers(-60, 60),
    st.booleans(),
)


def hit_by(one: Revocation, token: VerifiedClaims) -> bool:
    """Return whether an entry revokes a token, by the definition in the design."""
    older = (
        token.revision < one.sequence if token.revision is not None else token.issue_time <= one.revoke_time
    )
    return {
        RevocationTarget.TOKEN_ID: one.value == token.token_id
        and (one.token_expire_time is None or one.token_expire_time // 64 == token.expire_time // 64),
        RevocationTarget.SESSION: one.value == token.session_id,
        RevocationTarget.SUBJECT: one.value == token.subject and older,
        RevocationTarget.CLIENT: one.value == token.client_id and older,
        RevocationTarget.KEY: one.value == token.key_id,
        RevocationTarget.EVERYTHING: older,
    }[one.target]


@given(st.lists(_entries, max_size=12), st.randoms())
def test_token_is_revoked_if_any_entry_hits_it_in_any_order(
    entries: list[Revocation], order: random.Random
) -> None:
    shuffled = list(entries)
    order.shuffle(shuffled)
    one, other = the_set(*entries), the_set(*shuffled)
    for token in TOKENS:
        expected = any(hit_by(e, token) for e in entries)
        assert (one.find(token) is not None) == (other.find(token) is not None) == expected
        target = one.find(token)
        assert target is None or any(hit_by(e, token) for e in entries if e.target is target)


@given(st.lists(_entries, max_size=12))
def test_set_restored_from_snapshot_is_equal(entries: list[Revocation]) -> None:
    original, copy = the_set(*entries), RevocationSet(names=True)
    for block in original.blocks():
        half = len(block.fingerprints) // 16 * 8  # a bucket may be split into several blocks
        copy.load(Block(block.target, block.bucket, block.fingerprints[:half], block.expire_time))
        copy.load(Block(block.target, block.bucket, block.fingerprints[half:], block.expire_time))
    for one in original.entries():
        copy.apply(one)
    assert len(copy) == len(original)
    for token in TOKENS:
        assert copy.find(token) == original.find(token)
    for now in range(NOW, NOW + 10_000, 300):
        original.drop_expired(now)
        copy.drop_expired(now)
        assert len(copy) == len(original)


@given(st.lists(_entries, max_size=12))
def test_set_without_names_finds_the_same_and_is_restored_completely(entries: list[Revocation]) -> None:
    named, nameless, restored = the_set(*entries), RevocationSet(), RevocationSet()
    for one in entries:
        nameless.apply(one)
    for block in nameless.blocks():
        restored.load(block)
    for floor in nameless.floors():
        restored.load_floor(floor)
    for one in nameless.entries():
        assert one.target not in {RevocationTarget.SUBJECT, RevocationTarget.CLIENT}
        restored.apply(one)
    for now in (NOW, NOW + 4000, NOW + 6000):
        for revocations in (named, nameless, restored):
            revocations.drop_expired(now)
        assert len(named) == len(nameless) == len(restored)
        for token in TOKENS:
            assert named.find(token) == nameless.find(token) == restored.find(token)


@given(st.lists(_entries, max_size=12), st.integers(0, 8000))
def test_drop_expired_keeps_live_entries_and_finally_forgets_all(
    entries: list[Revocation], later: int
) -> None:
    revocations = the_set(*entries)
    revocations.drop_expired(NOW + later)
    live = [e for e in entries if e.expire_time > NOW + later]
    for token in TOKENS:
        if any(hit_by(e, token) for e in live):
            assert revocations.find(token) is not None
    revocations.drop_expired(NOW + 20_000)
    assert len(revocations) == 0
    assert all(revocations.find(token) is None for token in TOKENS)


def test_ids_without_known_expiry_expire_while_others_are_added() -> None:
    revocations = RevocationSet()
    longest = 0
    for step in range(200):
        now = NOW + step * 300
        revocations.apply(entry(RevocationTarget.TOKEN_ID, f"id-{step}", step, expire_time=now + 3900))
        revocations.drop_expired(now)
        longest = max(longest, len(revocations))
        assert revocations.has_token_id(f"id-{step}", None)
    assert longest <= (3900 + 1024) // 300 + 1


def test_has_methods_find_only_their_own_kind() -> None:
    revocations = the_set(
        entry(RevocationTarget.TOKEN_ID, "with", token_expire_time=NOW + 900),
        entry(RevocationTarget.TOKEN_ID, "without"),
        entry(RevocationTarget.SESSION, "s"),
        entry(RevocationTarget.KEY, "k"),
    )
    assert revocations.has_token_id("with", NOW + 900)
    assert not revocations.has_token_id("with", NOW + 9000)
    assert not revocations.has_token_id("with", None)
    assert revocations.has_token_id("without", NOW + 9000)
    assert revocations.has_token_id("without", None)
    assert revocations.has_session("s")
    assert not revocations.has_session("with")
    assert revocations.has_key("k")
    assert not revocations.has_key("s")
    assert len(revocations) == 4


def test_later_entry_with_earlier_clock_reduces_nothing() -> None:
    token = claims(rev=..., iat=NOW)
    first = entry(RevocationTarget.SUBJECT, "user-1", 5, revoke_time=NOW + 10)
    second = entry(RevocationTarget.SUBJECT, "user-1", 6, revoke_time=NOW - 10, expire_time=NOW + 10)
    revocations = the_set(first, second)
    assert revocations.find(token) is RevocationTarget.SUBJECT
    revocations.drop_expired(NOW + 3000)
    assert revocations.find(token) is RevocationTarget.SUBJECT
    revocations.apply(replace(second, expire_time=NOW + 3900))
    (joined,) = revocations.entries()
    assert (joined.sequence, joined.revoke_time, joined.expire_time) == (6, NOW + 10, NOW + 3900)


def test_every_change_gets_a_version_unique_among_all_sets() -> None:
    one, other = RevocationSet(), RevocationSet()
    seen = {one.version, other.version}
    for number in range(50):
        for revocations in (one, other):
            revocations.apply(entry(RevocationTarget.SESSION, f"s-{number}"))
            seen.add(revocations.version)
        one.load(Block(RevocationTarget.TOKEN_ID, UNKNOWN_EXPIRY, fingerprint(str(number)), NOW + 9))
        seen.add(one.version)
    assert len(seen) == 2 + 150


@pytest.mark.parametrize("bucket", [UNKNOWN_EXPIRY, NOW // 64])
def test_unpacked_block_is_refused(bucket: int) -> None:
    with pytest.raises(ValueError, match="block"):
        RevocationSet().load(Block(RevocationTarget.TOKEN_ID, bucket, b"123", NOW))


def test_million_ids_load_in_blocks_of_their_buckets() -> None:
    source = random.Random(3)
    revocations = RevocationSet()

    def blocks() -> Iterable[Block]:
        for number in range(56):
            values = sorted(source.randbytes(8) for _ in range(18_000))
            yield Block(RevocationTarget.TOKEN_ID, NOW // 64 + number, b"".join(values), NOW + number * 64)

    for block in blocks():
        revocations.load(block)
    assert len(revocations) == 56 * 18_000
    revocations.drop_expired(NOW + 55 * 64)
    assert len(revocations) == 0


def test_bucket_numbers_of_blocks_are_pinned() -> None:
    expiry = NOW + 900
    revocations = the_set(
        entry(RevocationTarget.TOKEN_ID, "a", token_expire_time=expiry, expire_time=expiry + 60),
        entry(RevocationTarget.TOKEN_ID, "b", token_expire_time=None),
        entry(RevocationTarget.SESSION, "s1"),
    )
    assert list(revocations.blocks()) == [
        Block(RevocationTarget.TOKEN_ID, expiry // 64, fingerprint("a"), expiry + 60),
        Block(RevocationTarget.TOKEN_ID, 0, fingerprint("b"), NOW + 3900),
        Block(RevocationTarget.SESSION, (NOW + 3900) // 1024, fingerprint("s1"), NOW + 3900),
    ]


@pytest.mark.parametrize(("target", "value"), _ONE_OF_EACH, ids=_TARGETS)
def test_bucket_is_forgotten_at_the_latest_expiry_of_its_entries(
    target: RevocationTarget, value: str
) -> None:
    token = claims(jti="a", rev=...)
    early, late = (entry(target, value, expire_time=NOW + after) for after in (3900, 3910))
    for entries in ((early,), (early, late), (late, early)):
        revocations = the_set(*entries)
        revocations.drop_expired(max(e.expire_time for e in entries) - 1)
        assert (len(revocations), revocations.find(token)) == (1, target)
        revocations.drop_expired(max(e.expire_time for e in entries))
        assert (len(revocations), revocations.find(token)) == (0, None)


def test_subjects_in_different_buckets_are_forgotten_separately() -> None:
    expiry = NOW // 2048 * 2048 + 4096
    revocations = the_set(
        entry(RevocationTarget.SUBJECT, "alice", expire_time=expiry - 1),
        entry(RevocationTarget.SUBJECT, "bob", expire_time=expiry),
    )
    revocations.drop_expired(expiry - 1)
    assert [one.value for one in revocations.entries()] == ["bob"]


@pytest.mark.parametrize(("target", "value"), _ONE_OF_EACH[2:], ids=_TARGETS[2:])
@pytest.mark.parametrize("revoked", [-10, 0, 10])
@pytest.mark.parametrize("expires", [-10, 0, 10])
def test_two_entries_for_one_target_join_to_the_greatest_values(
    target: RevocationTarget, value: str, revoked: int, expires: int
) -> None:
    first = entry(target, value, 5)
    second = entry(target, value, 6, revoke_time=NOW + revoked, expire_time=NOW + 3900 + expires)
    for entries in ((first, second), (second, first)):
        (joined,) = the_set(*entries).entries()
        assert joined == entry(
            target,
            value,
            6,
            revoke_time=NOW + max(0, revoked),
            expire_time=NOW + 3900 + max(0, expires),
        )


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (RevocationTarget.SUBJECT, "user-1"),
        (RevocationTarget.CLIENT, "web"),
        (RevocationTarget.EVERYTHING, ""),
    ],
)
def test_entry_revokes_tokens_issued_up_to_its_time_or_with_lower_seen_sequence(
    target: RevocationTarget, value: str
) -> None:
    revocations = the_set(entry(target, value, 5))
    assert revocations.find(claims(rev=..., iat=NOW)) is target
    assert revocations.find(claims(rev=..., iat=NOW + 1)) is None
    assert revocations.find(claims(rev=4, iat=NOW + 1)) is target
    assert revocations.find(claims(rev=5, iat=NOW)) is None


def test_token_without_session_is_not_revoked_by_empty_session_id() -> None:
    assert the_set(entry(RevocationTarget.SESSION, "")).find(claims(sid=...)) is None


def test_session_is_found_in_every_bucket() -> None:
    revocations = RevocationSet()
    assert not revocations.has_session("first")
    for number, name in enumerate(("first", "second", "third")):
        revocations.apply(entry(RevocationTarget.SESSION, name, expire_time=NOW + 1024 * number))
    for name in ("first", "second", "third"):
        assert revocations.has_session(name)
    assert not revocations.has_session("fourth")


def test_token_id_in_bucket_of_revoked_one_is_not_revoked() -> None:
    revocations = the_set(entry(RevocationTarget.TOKEN_ID, "one", token_expire_time=NOW + 900))
    assert not revocations.has_token_id("other", NOW + 900)
    assert revocations.find(claims(jti="other")) is None


def test_loaded_floor_changes_version() -> None:
    revocations = RevocationSet()
    before = revocations.version
    revocations.load_floor(Floor(RevocationTarget.SUBJECT, fingerprint("user-1"), 5, NOW, NOW + 3900))
    assert revocations.version != before
    assert revocations.find(claims(rev=4)) is RevocationTarget.SUBJECT


def test_set_without_names_has_one_record_per_subject() -> None:
    entries = [
        entry(RevocationTarget.SUBJECT, "alice", number, reason=reason)
        for number, reason in enumerate((RevocationReason.LOGOUT, RevocationReason.COMPROMISED), 1)
    ]
    nameless = RevocationSet()
    for one in entries:
        nameless.apply(one)
    assert (len(nameless), len(the_set(*entries))) == (1, 2)
    assert [one.reason for one in the_set(*entries).entries()] == [one.reason for one in entries]


def test_subject_is_revoked_since_the_latest_entry_for_it_or_for_everything() -> None:
    revocations = the_set(
        entry(RevocationTarget.SUBJECT, "alice", 1, revoke_time=NOW + 10.5),
        entry(RevocationTarget.SUBJECT, "alice", 2, revoke_time=NOW + 5, expire_time=NOW + 99_000),
        entry(RevocationTarget.CLIENT, "bob", 3, revoke_time=NOW + 99),
    )
    assert revocations.is_revoked_since("alice", NOW + 10.5)
    assert not revocations.is_revoked_since("alice", NOW + 11)
    assert not revocations.is_revoked_since("bob", NOW)
    revocations.apply(entry(RevocationTarget.EVERYTHING, sequence=4, revoke_time=NOW + 20))
    assert revocations.is_revoked_since("bob", NOW + 20)
    assert not revocations.is_revoked_since("bob", NOW + 21)
